"""The catalog of data sets on disk, and the names of those that can be fetched.

A data set is a directory `<home>/datasets/<name>/` that appears whole, by rename:

    dataset.json         see `Dataset`
    <split>.images.npy   uint8 (N, size, size, 3), RGB
    <split>.labels.npy   int64 (N,), index into `classes`
    images.csv           split,index,file,class,bytes,width,height,mode,format,sha256 an original
    refused.csv          file,reason

where <split> is train, test and, if the source had one of its own, validation. This module
imports neither torch nor streamlit; arrays are memory-mapped.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls import config, files
from imgcls.errors import DataError

BUILT_IN = ("digits", "cifar10", "cifar100", "mnist")  # fetched by imgcls.data.builtin
SPLITS = ("train", "validation", "test")
SWEEP_SECONDS = 60.0  # how old the draft of a dead import is at least when it is removed
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
IMAGE_COLUMNS = (
    "split", "index", "file", "class", "bytes", "width", "height", "mode", "format", "sha256",
)  # fmt: skip

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """What dataset.json says."""

    name: str
    classes: tuple[str, ...]
    size: int  # pixels a side
    counts: dict[str, list[int]]  # split → images a class
    mean: tuple[float, float, float]  # of the train images a channel, 0..1
    std: tuple[float, float, float]
    fingerprint: str  # SHA-256 over classes, images and labels
    resized: str  # in words, how originals became size×size
    fit: str  # the same, as preprocess.to_pixels takes it
    source: str  # in words, where it came from
    notes: tuple[str, ...] = ()  # what a reader should know, such as images found in two splits

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.counts)

    def total(self, split: str) -> int:
        return sum(self.counts.get(split, []))


def root() -> Path:
    """Where data set directories are kept."""
    return config.home() / "datasets"


def path(name: str) -> Path:
    """Where the data set of this name lies or would lie; raises DataError for an unfit name."""
    if not NAME.fullmatch(name):
        raise DataError(
            f"{name[:80]!r} cannot name a data set: use 1 to 64 of a-z, 0-9, '.', '_' and '-', "
            "a letter or digit first."
        )
    return root() / name


def names() -> list[str]:
    """The data sets on disk, by name."""
    return sorted(p.parent.name for p in root().glob("[a-z0-9]*/dataset.json"))


def load(name: str) -> Dataset:
    """What is known of a data set; raises DataError where there is none or its file is damaged."""
    file = path(name) / "dataset.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        for key in ("classes", "mean", "std", "notes"):
            values[key] = tuple(values[key])
        return Dataset(**values)
    except FileNotFoundError:
        hint = (
            f"Fetch it with: python -m imgcls data get {name}"
            if name in BUILT_IN
            else (f"On disk: {', '.join(names()) or 'none'}")
        )
        raise DataError(f"No data set named {name!r} is on disk. {hint}.") from None
    except (ValueError, TypeError, KeyError, OSError):
        raise DataError(f"Data set {name!r} is damaged: import or fetch it again.") from None


def arrays(name: str, split: str) -> tuple[Images, Labels]:
    """Images uint8 (N, size, size, 3) and labels int64 (N,), memory-mapped.

    What is written to them stays in this process's memory.
    """
    dataset = load(name)
    if split not in dataset.counts:
        raise DataError(f"{name} has no {split} images; it has {', '.join(dataset.splits)}.")
    try:
        images = np.load(path(name) / f"{split}.images.npy", mmap_mode="c", allow_pickle=False)
        labels = np.load(path(name) / f"{split}.labels.npy", mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        raise DataError(f"Data set {name!r} is damaged: import or fetch it again.") from None
    return images, labels


def split_indices(labels: Labels, share: float, seed: int) -> tuple[Labels, Labels]:
    """Sorted indices (kept, held out): `share` of each class is held out, drawn by `seed`.

    Every class with two or more images keeps at least one and gives at least one.
    """
    draw = np.random.default_rng(seed)
    held: list[Labels] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        n = round(len(members) * share)
        n = min(max(n, 1), len(members) - 1) if len(members) > 1 else 0
        held.append(draw.permutation(members)[:n])
    out = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), out), out


def measured_fingerprint(dataset: Dataset) -> str:
    """The fingerprint of what lies on disk now: a third of a second for CIFAR-10."""
    digest = hashlib.sha256("\0".join(dataset.classes).encode())
    for split in dataset.splits:
        _add_split(digest, split, *arrays(dataset.name, split))
    return digest.hexdigest()


def select(name: str, split: str, share: float, seed: int) -> tuple[Images, Labels, Labels]:
    """What training and evaluation mean by a split: images, labels, and the rows to take.

    split: train, validation, test or train+validation. Where the data set brings no validation
    images, `share` of train is held out by `seed`; rows index the returned arrays. Raises
    DataError where the data set has no such images.
    """
    own = "validation" in load(name).counts
    if split == "test" or (own and split in ("train", "validation")):
        images, labels = arrays(name, split)
        return images, labels, np.arange(len(labels))
    images, labels = arrays(name, "train")
    if split == "train+validation":
        if own:
            more_images, more_labels = arrays(name, "validation")
            images = np.concatenate([images, more_images])
            labels = np.concatenate([labels, more_labels])
        return images, labels, np.arange(len(labels))
    kept, held = split_indices(np.asarray(labels), share, seed)
    return images, labels, kept if split == "train" else held


@contextmanager
def publishing(name: str) -> Iterator[Path]:
    """A directory to fill; it becomes the data set `name` when the block ends, or vanishes.

    Raises DataError where `name` is unfit or taken.
    """
    target = path(name)
    if target.exists():
        raise DataError(
            f"A data set named {name!r} exists: choose another name or delete it first."
        )
    root().mkdir(parents=True, exist_ok=True)
    _sweep()
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
    held = files.lock(draft / ".lock")  # alive means locked: see _sweep
    try:
        yield draft
        (draft / ".lock").unlink()
        draft.rename(target)
    except OSError:  # ENOTEMPTY, which is no FileExistsError, where another import was first
        if not target.exists():
            raise
        raise DataError(
            f"A data set named {name!r} appeared meanwhile: choose another name."
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if held is not None:
            os.close(held)


def _sweep() -> None:
    """Remove drafts of imports that were killed; a young one may be about to take its lock."""
    for draft in root().glob(".*-*"):
        with contextlib.suppress(OSError):
            old = time.time() - draft.stat().st_mtime > SWEEP_SECONDS
            if old and not files.is_locked(draft / ".lock"):
                shutil.rmtree(draft, ignore_errors=True)


def write(
    draft: Path,
    *,
    name: str,
    classes: Sequence[str],
    splits: Mapping[str, tuple[Images, Labels]],
    resized: str,
    fit: str = "squash",
    source: str,
    notes: Sequence[str] = (),
) -> Dataset:
    """Write dataset.json, and the arrays that are not yet in `draft`; returns what was written."""
    digest = hashlib.sha256("\0".join(classes).encode())
    counts: dict[str, list[int]] = {}
    for split in SPLITS:
        if split not in splits:
            continue
        images, labels = splits[split]
        for kind, array in (("images", images), ("labels", labels)):
            file = draft / f"{split}.{kind}.npy"
            if not file.exists():
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        _add_split(digest, split, images, labels)
        counts[split] = np.bincount(labels, minlength=len(classes)).tolist()
    mean, std = channel_statistics(splits["train"][0])
    dataset = Dataset(
        name=name,
        classes=tuple(classes),
        size=int(splits["train"][0].shape[1]),
        counts=counts,
        mean=mean,
        std=std,
        fingerprint=digest.hexdigest(),
        resized=resized,
        fit=fit,
        source=source,
        notes=tuple(notes),
    )
    (draft / "dataset.json").write_text(config.dumps(asdict(dataset)), encoding="utf-8")
    return dataset


def _add_split(digest: "hashlib._Hash", split: str, images: Images, labels: Labels) -> None:
    for kind, array in (("images", images), ("labels", labels)):
        digest.update(f"{split}.{kind}".encode())
        for start in range(0, len(array), 512):
            digest.update(np.ascontiguousarray(array[start : start + 512]).tobytes())


def channel_statistics(
    images: Images,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation a channel, 0..1, exact, reading a block at a time."""
    histogram = np.zeros((3, 256), np.int64)
    for start in range(0, len(images), 512):
        block = images[start : start + 512].reshape(-1, 3)
        for channel in range(3):
            histogram[channel] += np.bincount(block[:, channel], minlength=256)
    values, count = np.arange(256), np.maximum(histogram.sum(1), 1)
    mean = histogram @ values / count
    std = np.sqrt(np.maximum(histogram @ values**2 / count - mean**2, 0))
    r, g, b = (mean / 255).tolist()
    sr, sg, sb = np.maximum(std / 255, 1e-4).tolist()
    return (r, g, b), (sr, sg, sb)


def delete(name: str) -> None:
    """Remove a data set from disk; raises DataError where there is none."""
    target = path(name)
    if not target.exists():
        raise DataError(f"No data set named {name!r} is on disk.")
    trash = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
    target.rename(trash / "old")
    shutil.rmtree(trash, ignore_errors=True)
