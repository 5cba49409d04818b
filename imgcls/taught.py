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
class Known:
    """Images of the classes that a model knows, to hold new ones against.

    Where the model learned from these very images, they lie further from a new class than others
    do. `shares` then tells what to expect of others; None where the images are such others.
    """

    features: NDArray[np.float16]  # (N, width), what the last layer sees
    labels: NDArray[np.int64]  # (N,)
    shares: NDArray[np.float64] | None = None  # (N + 1,): see `Taught`


@dataclass(frozen=True, eq=False)
class Taught:
    """New classes beside known ones, in the space of a model's features."""

    classes: tuple[str, ...]  # the new ones
    center: Floats  # (width,) of known images' features
    known: Floats  # (known classes, width), directions of length 1 from there
    new: Floats  # (new classes, width), likewise
    margins: Floats  # (N,) ascending, of known images: see `margin`
    shares: NDArray[np.float64]  # (N + 1,), by how many of these reach a picture's margin: of
    # images that the model did not learn from, those that are as much like a new class
    limit: float  # largest of these shares at which a picture is called new

    def margin(self, features: Floats) -> Floats:
        """(N, new classes): cosine to each new mean less the largest to a known one."""
        directions = _unit(features - self.center)
        nearest: Floats = (directions @ self.known.T).max(1, keepdims=True)
        return directions @ self.new.T - nearest

    def above(self, margins: Floats) -> NDArray[np.int64]:
        """(n,): how many of the known images reach each of (n,) margins."""
        counts: NDArray[np.int64] = len(self.margins) - np.searchsorted(self.margins, margins)
        return counts

    def say(self, features: Floats) -> list["Said"]:
        """Of each picture's (N, width) features the new class that it is most like."""
        margins = self.margin(features)
        best = margins.argmax(1)
        largest = margins[np.arange(len(margins)), best]
        shares = self.shares[self.above(largest)]
        return [
            Said(self.classes[i], bool(share <= self.limit), float(share))
            for i, share in zip(best, shares, strict=True)
        ]


@dataclass(frozen=True)
class Said:
    """What is said of a picture."""

    name: str  # of the new class that it is most like
    is_new: bool  # whether it is called so
    share: float  # of images of known classes that are as much like a new one


def fit(known: Known, new: dict[str, NDArray[np.float16]]) -> Taught:
    """From known images, and (n, width) features of each new class's pictures."""
    features = known.features.astype(np.float32)
    center: Floats = features.mean(0)
    directions = _unit(features - center)
    means = [directions[known.labels == i].mean(0) for i in np.unique(known.labels)]
    few = [_unit(one.astype(np.float32) - center).mean(0) for one in new.values()]
    shares, limit = known.shares, 1 - PASSING
    if shares is None:  # as conformal prediction counts: the picture is one more of them
        shares = np.arange(1, len(features) + 2) / (len(features) + 1)
        limit = max(limit, shares[0])  # where few are known, what is beyond all of them
    means_of_new = _unit(np.stack(few))
    taught = Taught(
        tuple(new), center, _unit(np.stack(means)), means_of_new, features[:0, 0], shares, limit
    )
    return replace(taught, margins=np.sort(taught.margin(features).max(1)))


def _unit(vectors: Floats) -> Floats:
    """Of length 1 along the last axis; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def new_classes(run: Run) -> dict[str, int]:
    """Kept pictures of classes that a run's model does not know, by name."""
    known = card.read(run.model_path).classes
    return {name: count for name, count in feedback.counts().items() if name not in known}


def known_images(run: Run) -> Known | None:
    """Images whose classes a run knows; None where none are stored.

    Its validation images; for the model that ships, images that come with it.
    """
    if run.known_path.exists():
        try:
            with np.load(run.known_path, allow_pickle=False) as file:
                return Known(file["features"], file["labels"], file["shares"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise ModelError(f"{run.id}/known.npz is damaged: delete the run's folder.") from None
    features = predictions.features(run, "validation")
    answers = predictions.load(run, "validation")
    return None if features is None or answers is None else Known(features, answers.labels)


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
    return fit(known, told)
