"""Classes that a model was never trained on, from a few pictures of each.

What the model's last layer sees of a picture is compared with the mean of the few and with the
means of the classes that it knows: the nearest-class-mean classifier of Mensink et al. 2013, as
Snell et al. 2017 (arXiv:1703.05175) use it for few pictures. Known images set how near is near
enough. The pictures are those that `feedback` keeps under names that the model does not know.
"""

import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls import card, feedback, preprocess, runs
from imgcls.data.catalog import Images
from imgcls.errors import DataError, ModelError
from imgcls.evaluate import predictions
from imgcls.evaluate.belief import PASSING
from imgcls.runs import Run

MOST = 100  # pictures of a class that are looked at

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taught:
    """New classes beside known ones, in the space of a model's features."""

    classes: tuple[str, ...]  # the new ones
    center: Floats  # (width,) of known images' features
    known: Floats  # (known classes, width), directions of length 1 from there
    new: Floats  # (new classes, width), likewise
    margins: Floats  # ascending, of known images: see `margin`
    limit: float  # PASSING of the known images have at most this margin

    def margin(self, features: Floats) -> Floats:
        """(N, new classes): cosine to each new mean less the largest to a known one."""
        directions = _unit(features - self.center)
        nearest: Floats = (directions @ self.known.T).max(1, keepdims=True)
        return directions @ self.new.T - nearest

    def say(self, features: Floats) -> list["Said"]:
        """Of each picture's (N, width) features the new class that it is most like."""
        margins = self.margin(features)
        best = margins.argmax(1)
        largest = margins[np.arange(len(margins)), best]
        above = len(self.margins) - np.searchsorted(self.margins, largest, side="left")
        shares = (above + 1) / (len(self.margins) + 1)
        return [
            Said(self.classes[i], bool(one > self.limit), float(share))
            for i, one, share in zip(best, largest, shares, strict=True)
        ]


@dataclass(frozen=True)
class Said:
    """What is said of a picture."""

    name: str  # of the new class that it is most like
    is_new: bool  # whether it is called so
    share: float  # of known images that are as much like a new class


def fit(
    known: NDArray[np.float16], labels: NDArray[np.int64], new: dict[str, NDArray[np.float16]]
) -> Taught:
    """From (N, width) features of known images with labels, and of each new class's pictures."""
    features = known.astype(np.float32)
    center: Floats = features.mean(0)
    directions = _unit(features - center)
    means = [directions[labels == i].mean(0) for i in np.unique(labels)]
    few = [_unit(one.astype(np.float32) - center).mean(0) for one in new.values()]
    taught = Taught(
        tuple(new), center, _unit(np.stack(means)), _unit(np.stack(few)), np.empty(0, np.float32), 0
    )
    margins = np.sort(taught.margin(features).max(1))
    rank = min(int(np.ceil((len(margins) + 1) * PASSING)), len(margins))
    return replace(taught, margins=margins, limit=float(margins[rank - 1]))


def _unit(vectors: Floats) -> Floats:
    """Of length 1 along the last axis; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def new_classes(run: Run) -> dict[str, int]:
    """Kept pictures of classes that a run's model does not know, by name."""
    known = card.read(run.model_path).classes
    return {name: count for name, count in feedback.counts().items() if name not in known}


def known_images(run: Run) -> tuple[NDArray[np.float16], NDArray[np.int64]] | None:
    """Features and labels of images whose classes a run knows; None where none are stored.

    Its validation images; for the model that ships, images that come with it.
    """
    if run.known_path.exists():
        try:
            with np.load(run.known_path, allow_pickle=False) as file:
                return file["features"], file["labels"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise ModelError(f"{run.id}/known.npz is damaged: delete the run's folder.") from None
    features = predictions.features(run, "validation")
    answers = predictions.load(run, "validation")
    return None if features is None or answers is None else (features, answers.labels)


def ask(run_id: str, pictures: Images) -> list[Said]:
    """What is said of (N, size, size, 3) pictures by what was kept of new classes.

    Imports torch. Raises ModelError where the model has no features to compare by, where none of
    known images are stored, or where nothing was kept.
    """
    run = runs.get(run_id)
    paths = tuple(p for name in new_classes(run) for p in feedback.pictures(name)[:MOST])
    taught = _of(run, run.model_path.stat().st_mtime_ns, paths)
    features = predictions.see(run_id, pictures)
    assert features is not None  # else there were none of the known images
    return taught.say(features.astype(np.float32))


@lru_cache(maxsize=4)
def _of(run: Run, changed: int, paths: tuple[Path, ...]) -> Taught:
    known = known_images(run)
    if known is None or not paths:
        raise ModelError(
            f"{run.id} cannot be taught: there is nothing to compare by, or nothing was kept."
        )
    about = card.read(run.model_path)
    new: dict[str, list[NDArray[np.uint8]]] = {}
    for path in paths:
        try:
            image = preprocess.open_picture(path.read_bytes(), path.name).image
        except (DataError, OSError):
            continue  # nothing that `feedback` wrote: it concerns nobody here
        new.setdefault(path.parent.name, []).append(
            preprocess.to_pixels(image, about.size, about.fit)
        )
    if not new:
        raise ModelError("No picture of those kept of new classes can be read: keep others.")
    told = {}
    for name, few in new.items():
        features = predictions.see(run.id, np.stack(few))
        assert features is not None
        told[name] = features
    return fit(*known, told)
