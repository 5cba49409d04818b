"""How a run came to its answers, from those that it kept of its epochs; needs no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls.data import catalog
from imgcls.errors import ImgclsError
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """Answers to the same images after several epochs."""

    run: str
    dataset: str
    classes: tuple[str, ...]
    epochs: tuple[int, ...]  # as events count them, from 1, ascending
    logits: NDArray[np.float16]  # (epochs, N, classes), finite
    labels: NDArray[np.int64]  # (N,)
    indices: NDArray[np.int64]  # (N,), where each image stands in the arrays of `catalog.select`

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(epochs, N)"""
        best: NDArray[np.int64] = self.logits.argmax(2).astype(np.int64)
        return best

    @cached_property
    def true_probability(self) -> Floats:
        """(epochs, N), 0..1: what the model gives the true class."""
        rows = np.arange(len(self.labels))
        return np.stack([softmax(one, axis=1)[rows, self.labels] for one in self._each()])

    def probabilities(self, row: int) -> Floats:
        """(epochs, classes) of one image."""
        shares: Floats = softmax(self.logits[:, row].astype(np.float64), axis=1)
        return shares

    def _each(self) -> Iterator[Floats]:
        return (one.astype(np.float64) for one in self.logits)


def load(run: Run) -> History | None:
    """What was kept of a run; None where nothing was, or its images are others by now."""
    epochs = run.answered_epochs()
    try:
        dataset = catalog.load(run.config.dataset)
        if not epochs or run.facts["fingerprint"] != dataset.fingerprint:
            return None
        share, seed = run.config.validation_share, run.config.split_seed
        _, labels, indices = catalog.select(dataset.name, "validation", share, seed)
        kept = [np.load(run.answers_path(epoch), allow_pickle=False) for epoch in epochs]
        logits = np.stack(kept)
    except (ImgclsError, OSError, ValueError, EOFError):
        return None
    if logits.shape[1:] != (len(indices), len(dataset.classes)) or not np.isfinite(logits).all():
        return None  # of other images, or damaged
    return History(
        run.id, dataset.name, dataset.classes, tuple(epochs), logits, labels[indices], indices
    )


def answers(history: History, at: int) -> Predictions:
    """The answers after one of its epochs, by position, as those of a finished run are stored."""
    return Predictions(
        history.run,
        history.dataset,
        "validation",
        history.classes,
        history.logits[at].astype(np.float32),
        history.labels,
        history.indices,
        epoch=history.epochs[at],
    )


def confusions(history: History) -> NDArray[np.int64]:
    """(epochs, classes, classes): images by true class (down) and predicted one (across)."""
    k = len(history.classes)
    cells = history.labels * k + history.predicted
    return np.stack([np.bincount(one, minlength=k * k).reshape(k, k) for one in cells])


def recalls(confusion: NDArray[np.int64]) -> Floats:
    """(epochs, classes), 0..1: of each class's images those called right; NaN without images."""
    right = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
    of = confusion.sum(2)
    shares: Floats = np.divide(right, of, out=np.full_like(right, np.nan), where=of > 0)
    return shares


def maps(history: History) -> Floats:
    """(epochs, N, 2): the images by the two directions in which the last epoch's logits vary most.

    Principal components of the last epoch, onto which all are projected, so that axes stand still
    while images move. One image alone varies in none.
    """
    from sklearn.decomposition import PCA

    if history.logits.shape[1] < 2:
        return np.zeros((*history.logits.shape[:2], 2))
    with np.errstate(invalid="ignore"):  # where all answers are the same, their variance is 0
        axes = PCA(2, svd_solver="full").fit(history.logits[-1].astype(np.float64))
    flat: Floats = np.stack([axes.transform(one.astype(np.float64)) for one in history.logits])
    return flat


@dataclass(frozen=True, eq=False)
class Cartography:
    """How sure, how fickle and how forgetful a run was about each image, over its epochs.

    Sources: Swayamdipta et al. 2020, "Dataset Cartography", arXiv:2009.10795, section 2; Toneva et
    al. 2018, arXiv:1812.05159, forgetting events.
    """

    confidence: Floats  # (N,), 0..1: mean probability of the true class
    variability: Floats  # (N,), 0..0.5: its standard deviation
    correct: Floats  # (N,), 0..1: share of the evaluations that call it right
    forgotten: NDArray[np.int64]  # (N,), how often it was right and, at the next evaluation, wrong


def cartography(history: History) -> Cartography:
    """See `Cartography`; of a single evaluation nothing varies and nothing is forgotten."""
    right = history.predicted == history.labels
    return Cartography(
        history.true_probability.mean(0),
        history.true_probability.std(0),
        right.mean(0),
        (right[:-1] & ~right[1:]).sum(0),
    )
