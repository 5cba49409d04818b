"""Figures of one run on one split, from stored predictions alone; needs no torch.

What cannot be known is NaN, never 0: the precision of a class that was never predicted, the recall
of a class without images.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from imgcls.evaluate.predictions import Predictions

ORDERED = 100  # classes up to which their best order is looked for

Rows = NDArray[np.int64]  # rows of a Predictions


@dataclass(frozen=True)
class ClassMetrics:
    """One class, or an average over the classes; NaN where a figure is undefined."""

    name: str
    precision: float  # 0..1: of the images called so, the share that is
    recall: float  # 0..1: of the images that are so, the share called so
    f1: float  # 0..1: harmonic mean of the two
    support: int  # images of this class


@dataclass(frozen=True, eq=False)
class Metrics:
    """What is said of a run on a split."""

    run: str
    dataset: str
    split: str
    classes: tuple[str, ...]
    n: int  # images
    accuracy: float  # 0..1
    accuracy_low: float  # 0..1, 95 % interval
    accuracy_high: float
    loss: float  # nats an image
    per_class: tuple[ClassMetrics, ...]  # in the order of `classes`
    macro: ClassMetrics  # every class counts the same; undefined figures are left out
    weighted: ClassMetrics  # every image counts the same; undefined figures are left out
    confusion: NDArray[np.int64]  # (classes, classes): rows true, columns predicted


def summary(predictions: Predictions) -> Metrics:
    """All figures of a split that holds at least one image."""
    labels, predicted = predictions.labels, predictions.predicted
    n, right = len(labels), int(predictions.correct.sum())
    low, high = wilson_interval(right, n)
    order = np.arange(len(predictions.classes))
    columns = precision_recall_fscore_support(labels, predicted, labels=order, zero_division=np.nan)
    precision, recall, f1, support = (column.tolist() for column in columns)
    per_class = tuple(
        ClassMetrics(*row)
        for row in zip(predictions.classes, precision, recall, f1, support, strict=True)
    )
    log_shares = log_softmax(predictions.logits.astype(np.float64), axis=1)
    return Metrics(
        run=predictions.run,
        dataset=predictions.dataset,
        split=predictions.split,
        classes=predictions.classes,
        n=n,
        accuracy=right / n,
        accuracy_low=low,
        accuracy_high=high,
        loss=float(-log_shares[np.arange(n), labels].mean()),
        per_class=per_class,
        macro=_average("macro average", per_class, np.ones(len(per_class))),
        weighted=_average("weighted average", per_class, np.array(support, dtype=float)),
        confusion=confusion_matrix(labels, predicted, labels=order).astype(np.int64),
    )


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share p = right / n, 0..1; needs n >= 1.

    (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n) with z = 1.96, which never leaves 0..1.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    J. Am. Stat. Assoc. 22 (1927), 209-212.
    """
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def report_table(metrics: Metrics) -> pd.DataFrame:
    """Columns class, precision, recall, f1, support: a row a class, then the two averages."""
    return pd.DataFrame(
        [
            (row.name, row.precision, row.recall, row.f1, row.support)
            for row in (*metrics.per_class, metrics.macro, metrics.weighted)
        ],
        columns=["class", "precision", "recall", "f1", "support"],
    )


def left_out(found: Metrics) -> str:
    """Which classes the averages do without, in words; nothing where they have all."""
    never = sum(np.isnan(row.precision) and row.support > 0 for row in found.per_class)
    empty = sum(row.support == 0 for row in found.per_class)
    said = ""
    if never:
        said += f"{never} of {len(found.classes)} classes are never called: precision's averages "
        said += "leave them out. "
    if empty:
        said += f"{empty} of {len(found.classes)} classes have no image here: averages of recall "
        said += "leave them out. "
    return said


def similarity_order(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes, (classes,), such that those often taken for each other stand side by side.

    Leaves of average linkage on 1 - the mean of both shares taken for the other, over the largest;
    up to ORDERED classes in the optimal order of Bar-Joseph and others 2001, Bioinformatics 17.
    """
    n = len(confusion)
    if n < 3:
        return np.arange(n)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    alike = (shares + shares.T) / 2
    np.fill_diagonal(alike, 0)
    apart = 1 - alike / (alike.max() or 1.0)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart, checks=False), "average", optimal_ordering=n <= ORDERED)
    order: NDArray[np.int64] = leaves_list(tree).astype(np.int64)
    return order


def most_mistaken(confusion: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The classes with most mistakes to or from them, at most `limit`, in their own order."""
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)
    return np.sort(np.argsort(-wrong, kind="stable")[:limit]).astype(np.int64)


def confused_pairs(confusion: NDArray[np.int64], limit: int) -> list[tuple[int, int, int, float]]:
    """The largest cells off the diagonal: true, predicted, images, share of the true class."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong.ravel(), kind="stable")[:limit]
    pairs = ((*divmod(int(cell), len(wrong)),) for cell in order)
    return [
        (true, called, int(wrong[true, called]), int(wrong[true, called]) / confusion[true].sum())
        for true, called in pairs
        if wrong[true, called]
    ]


def confident_mistakes(predictions: Predictions, limit: int) -> Rows:
    """At most `limit` rows that are wrong, the most confident first."""
    wrong = np.flatnonzero(~predictions.correct)
    order = np.argsort(-predictions.confidence[wrong], kind="stable")
    return wrong[order][:limit].astype(np.int64)


def doubtful_hits(predictions: Predictions, limit: int) -> Rows:
    """Rows called right, the least confident first."""
    right = np.flatnonzero(predictions.correct)
    order = np.argsort(predictions.confidence[right], kind="stable")
    return right[order][:limit].astype(np.int64)


def sample(predictions: Predictions, count: int, seed: int) -> Rows:
    """`count` rows at random, or all in random order where there are fewer; the same for a seed."""
    return np.random.default_rng(seed).permutation(len(predictions.labels))[:count].astype(np.int64)


def cell(predictions: Predictions, true: int, predicted: int) -> Rows:
    """The rows behind one cell of the confusion matrix, the most confident first."""
    rows = np.flatnonzero((predictions.labels == true) & (predictions.predicted == predicted))
    order = np.argsort(-predictions.confidence[rows], kind="stable")
    return rows[order].astype(np.int64)


def _average(
    name: str, rows: tuple[ClassMetrics, ...], weights: NDArray[np.float64]
) -> ClassMetrics:
    def mean(figures: list[float]) -> float:
        values = np.array(figures)
        known = ~np.isnan(values) & (weights > 0)
        return float(np.average(values[known], weights=weights[known])) if known.any() else np.nan

    return ClassMetrics(
        name=name,
        precision=mean([row.precision for row in rows]),
        recall=mean([row.recall for row in rows]),
        f1=mean([row.f1 for row in rows]),
        support=sum(row.support for row in rows),
    )
