"""Figures that describe a data set, from its memory-mapped arrays; imports no torch."""

import csv
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imgcls.data import catalog
from imgcls.data.catalog import Dataset, Images, Labels
from imgcls.errors import DataError

BLOCK = 4096  # images read at a time


@dataclass(frozen=True)
class SplitStatistics:
    """What one pass over a split finds."""

    mean: NDArray[np.float64]  # (3,), 0..1 a channel
    std: NDArray[np.float64]  # (3,), 0..1 a channel
    histogram: NDArray[np.int64]  # (3, 256), pixels a channel and value
    class_means: Images  # (classes, size, size, 3), the mean image of each class; black where none


def counts(dataset: Dataset) -> pd.DataFrame:
    """Images a class (rows, in the data set's order) and split (columns)."""
    return pd.DataFrame(
        {split: dataset.counts[split] for split in dataset.splits}, index=list(dataset.classes)
    )


def split_statistics(images: Images, labels: Labels, classes: int) -> SplitStatistics:
    """One pass over the images, a block at a time."""
    histogram = np.zeros((3, 256), np.int64)
    sums = np.zeros((classes, *images.shape[1:]))
    for start in range(0, len(images), BLOCK):
        block = np.asarray(images[start : start + BLOCK])
        here = np.asarray(labels[start : start + BLOCK])
        for channel in range(3):
            histogram[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
        for label in np.unique(here):
            sums[label] += block[here == label].sum(0, dtype=np.float64)
    members = np.maximum(np.bincount(labels, minlength=classes), 1)
    values = np.arange(256) / 255
    pixels = np.maximum(histogram.sum(1), 1)
    mean = histogram @ values / pixels
    std = np.sqrt(np.maximum(histogram @ values**2 / pixels - mean**2, 0))
    means = np.rint(sums / members[:, None, None, None]).astype(np.uint8)
    return SplitStatistics(mean, std, histogram, means)


def image_facts(name: str, split: str, index: int) -> dict[str, str]:
    """The row of images.csv that tells where an image came from; empty where none is kept."""
    wanted = str(index)
    try:
        with open(catalog.path(name) / "images.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("split") == split and row.get("index") == wanted:
                    return {key: value for key, value in row.items() if key and value}
    except FileNotFoundError:
        return {}
    except (OSError, csv.Error, UnicodeDecodeError):
        raise DataError(
            f"The images.csv of {name!r} is damaged: import or fetch it again."
        ) from None
    return {}


def refused(name: str) -> pd.DataFrame:
    """The files that the import refused, with the reason; empty where none were."""
    try:
        return pd.read_csv(catalog.path(name) / "refused.csv", dtype=str, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        return pd.DataFrame({"file": [], "reason": []}, dtype=str)
    except (OSError, ValueError):
        raise DataError(f"The refused.csv of {name!r} is damaged.") from None
