"""Whether mistakes go with simple traits of images, by which shortcuts show. Needs no torch.

A trait is one number an image: how bright it is, how much it varies, how sharp it is, how wide its
plain margin is, how large its file was. Images are put into groups of about equal number by it, and
each group's share of mistakes is held against the others'.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.evaluate import compare, predictions
from imgcls.evaluate.metrics import wilson_interval
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run

GROUPS = 10  # at most; fewer where many images have the same value
MOST_PIXELS = 2**24  # that are looked at: 16,384 images of 32×32, evenly drawn from all
PLAIN = 10  # levels of 255 by which pixels of a plain margin differ at most; JPEG is not exact
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# By name: what the first and the last group are called.
NAMES: dict[str, tuple[str, str]] = {
    "brightness": ("the darkest", "the brightest"),
    "contrast": ("the flattest", "the richest in contrast"),
    "sharpness": ("the most blurred", "the sharpest"),
    "margin": ("the narrowest margin", "the widest margin"),
    "file size": ("the smallest file", "the largest file"),
}

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trait:
    """Mistakes by one trait; groups in ascending order of it."""

    name: str  # of NAMES
    values: Floats  # (N,), of each row looked at
    group: NDArray[np.int64]  # (N,), 0..G-1
    middle: Floats  # (G,), median of each group
    images: NDArray[np.int64]  # (G,)
    wrong: NDArray[np.int64]  # (G,)
    low: Floats  # (G,), 95 % interval of the share that is wrong, 0..1
    high: Floats
    p: float  # 0..1, of a χ² test that all groups err alike, corrected for the number of traits

    @property
    def rates(self) -> Floats:
        """(G,) shares of wrong answers, 0..1."""
        shares: Floats = self.wrong / self.images
        return shares

    @property
    def real(self) -> bool:
        """Whether chance alone is a poor explanation for the groups' differences."""
        return self.p < compare.ALPHA


def of_run(run: Run, answers: Predictions) -> tuple[NDArray[np.int64], list[Trait]]:
    """The rows of `answers` that were looked at, and what each trait says of them.

    A trait of which all images have the same is left out, and so are files' sizes where the data
    set does not know them. Raises DataError where the data set is gone.
    """
    images, _, _ = predictions.judged_images(run, answers.split)
    every = max(1, -(-len(answers.labels) * images.shape[1] ** 2 // MOST_PIXELS))
    rows = np.arange(0, len(answers.labels), every)
    found: dict[str, Floats] = measure(images, answers.indices[rows])
    sizes = file_sizes(*stored_place(run, answers.split))
    if sizes is not None and len(sizes) == len(images):
        found["file size"] = sizes[answers.indices[rows]]
    return rows, by_trait(found, ~answers.correct[rows])


def by_trait(found: Mapping[str, Floats], wrong: NDArray[np.bool_]) -> list[Trait]:
    """Each trait's groups of (N,) images; those come first that mistakes depend on most."""
    drafts = []
    for name, values in found.items():
        group = groups(values)
        count = int(group.max(initial=0)) + 1
        if count > 1:
            images = np.bincount(group, minlength=count)
            mistakes = np.bincount(group[wrong], minlength=count)
            drafts.append((name, values, group, images, mistakes, alike(images, mistakes)))
    corrected = compare.holm([p for *_, p in drafts])
    traits = []
    for (name, values, group, images, mistakes, _), p in zip(drafts, corrected, strict=True):
        bounds = np.array(
            [wilson_interval(int(w), int(n)) for w, n in zip(mistakes, images, strict=True)]
        )
        middle = np.array([np.median(values[group == i]) for i in range(len(images))])
        traits.append(
            Trait(name, values, group, middle, images, mistakes, bounds[:, 0], bounds[:, 1], p)
        )
    return sorted(traits, key=lambda trait: trait.p)


def groups(values: Floats) -> NDArray[np.int64]:
    """The group of each of (N,) values: GROUPS of about equal number, equal values together."""
    inner = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    raw = np.searchsorted(inner, values, side="left")
    _, dense = np.unique(raw, return_inverse=True)  # without groups that nothing fell into
    return dense.astype(np.int64)


def alike(images: NDArray[np.int64], wrong: NDArray[np.int64]) -> float:
    """p of Pearson's χ² test that all groups err at one rate; 1 where none or all are wrong."""
    if not 0 < wrong.sum() < images.sum():
        return 1.0
    return float(chi2_contingency(np.stack((wrong, images - wrong)), correction=False).pvalue)


def measure(images: Images, rows: NDArray[np.int64]) -> dict[str, Floats]:
    """Traits of these rows of uint8 (N, size, size, 3) images, each (len(rows),).

    brightness: mean luma, 0..1. contrast: its standard deviation, 0..0.5 (Peli 1990, J. Opt. Soc.
    Am. A 7, 2032-2040). sharpness: variance of the luma's Laplacian (Pech-Pacheco and others 2000,
    ICPR). margin: the widest stretch of plain rows or columns at an edge, as a share of the side.
    """
    blocks = [_measure(block) for block in _blocks(images, rows)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def file_sizes(dataset: str, split: str) -> Floats | None:
    """Bytes of the original file of each image of a split as stored; None where unknown."""
    try:
        with open(catalog.path(dataset) / "images.csv", encoding="utf-8", newline="") as file:
            told = [
                (int(row["index"]), int(row["bytes"]))
                for row in csv.DictReader(file)
                if row["split"] == split
            ]
    except (OSError, ValueError, KeyError):
        return None
    if not told or sorted(index for index, _ in told) != list(range(len(told))):
        return None
    return np.array([size for _, size in sorted(told)], dtype=np.float64)


def stored_place(run: Run, split: str) -> tuple[str, str]:
    """The data set, and the split under which the images of `split` lie there on disk."""
    dataset, part = predictions.place(run, split)
    own = "validation" in catalog.load(dataset).counts
    return dataset, "train" if part == "validation" and not own else part


def _blocks(images: Images, rows: NDArray[np.int64]) -> Iterator[Images]:
    count = max(1, 2**21 // images.shape[1] ** 2)
    for start in range(0, len(rows), count):
        yield images[rows[start : start + count]]


def _measure(images: Images) -> dict[str, Floats]:
    luma = images.astype(np.float32) @ np.array(LUMA, np.float32) / 255
    inside = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    edges = around - 4 * inside
    return {
        "brightness": luma.mean((1, 2), dtype=np.float64),
        "contrast": luma.std((1, 2), dtype=np.float64),
        "sharpness": edges.var((1, 2), dtype=np.float64),
        "margin": _margins(images),
    }


def _margins(images: Images) -> Floats:
    """The widest plain stretch at one of the four edges, as a share of the side, 0..1."""
    side = images.shape[1]
    widest = np.zeros(len(images), np.int64)
    turned = (images, images[:, ::-1], images.swapaxes(1, 2), images[:, :, ::-1].swapaxes(1, 2))
    for view in turned:
        corner = view[:, :1, :1].astype(np.int16)
        # Most images have no margin, which their outermost row shows.
        some = np.flatnonzero((np.abs(view[:, 0] - corner[:, 0]) <= PLAIN).all((1, 2)))
        plain = (np.abs(view[some] - corner[some]) <= PLAIN).all((2, 3))
        wide = np.where(plain.all(1), side, np.argmin(plain, axis=1))
        widest[some] = np.maximum(widest[some], wide)
    shares: Floats = widest / side
    return shares
