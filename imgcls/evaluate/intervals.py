"""Figures with their 95 % intervals, overall and a class; needs no torch.

Shares of independent images have Wilson's interval. The others have the percentile bootstrap: the
images are drawn anew with replacement, DRAWS times with a fixed seed, and the interval spans 95 %
of what comes out. Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from imgcls.evaluate.metrics import wilson_interval
from imgcls.evaluate.predictions import Predictions

DRAWS = 1000
ENDS = ("", " low", " high")
TOP = (2, 3, 5)  # an answer counts that has the true class among its so many likeliest

Floats = NDArray[np.float64]


def estimates(predictions: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is said of all images together, and of each class; NaN where undefined.

    The first has columns figure, value, low, high; top-k accuracy is left out where k is not below
    the number of classes. The second has a row a class: precision, recall, F1 and AUC, each
    followed by its low and high, and support. AUC is the chance that an image of the class gets a
    higher probability of it than one of another, a tie counting half; its interval is that of
    Hanley and McNeil 1982, Radiology 143, 29-36.
    """
    drawn, f1_drawn = _draws(predictions)
    return _overall(predictions, drawn), _by_class(predictions, f1_drawn)


def _overall(predictions: Predictions, drawn: Floats) -> pd.DataFrame:
    labels, n = predictions.labels, len(predictions.labels)
    rows: list[tuple[str, float, float, float]] = []
    right = int(predictions.correct.sum())
    rows.append(("accuracy", right / n, *wilson_interval(right, n)))
    for k in TOP:
        if k < len(predictions.classes):
            among = int((_rank(predictions) < k).sum())
            rows.append((f"top-{k} accuracy", among / n, *wilson_interval(among, n)))
    found, _ = _figures(predictions, None)
    names = (
        "balanced accuracy", "macro precision", "weighted precision", "macro F1", "weighted F1",
        "Cohen's kappa",
    )  # fmt: skip
    for i, name in enumerate(names):
        rows.append((name, float(found[i]), *_percentiles(drawn[:, i])))
    losses = -log_softmax(predictions.logits.astype(np.float64), axis=1)[np.arange(n), labels]
    spread = float(norm.ppf(0.975) * losses.std(ddof=1) / n**0.5) if n > 1 else np.nan
    rows.append(("log loss, nats", losses.mean(), losses.mean() - spread, losses.mean() + spread))
    return pd.DataFrame(rows, columns=["figure", "value", "low", "high"])


def _by_class(predictions: Predictions, f1_drawn: Floats) -> pd.DataFrame:
    classes = range(len(predictions.classes))
    labels, predicted = predictions.labels, predictions.predicted
    _, f1 = _figures(predictions, None)
    rows = []
    for c in classes:
        true, called = labels == c, predicted == c
        both = int((true & called).sum())
        rows.append(
            (
                predictions.classes[c],
                *_share(both, int(called.sum())),
                *_share(both, int(true.sum())),
                float(f1[c]),
                *_percentiles(f1_drawn[:, c]),
                *_auc(predictions.probabilities[:, c], true),
                int(true.sum()),
            )
        )
    names = [f"{name}{end}" for name in ("precision", "recall", "F1", "AUC") for end in ENDS]
    return pd.DataFrame(rows, columns=["class", *names, "support"])


def _share(part: int, whole: int) -> tuple[float, float, float]:
    return (part / whole, *wilson_interval(part, whole)) if whole else (np.nan,) * 3


def _auc(scores: Floats, true: NDArray[np.bool_]) -> tuple[float, float, float]:
    ours, others = int(true.sum()), int((~true).sum())
    if not ours or not others:
        return (np.nan,) * 3
    area = float(roc_auc_score(true, scores))
    spread = float(norm.ppf(0.975)) * auc_error(area, ours, others)
    if not spread:  # all or none in order: the formula knows no doubt then, however few images
        return area, np.nan, np.nan
    return area, max(0.0, area - spread), min(1.0, area + spread)


def auc_error(area: float, ours: int, others: int) -> float:
    """The standard error of an area 0..1 under the ROC curve, of so many images of each kind.

    Source: Hanley and McNeil 1982, Radiology 143, 29-36, equations 1 and 2.
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (ours - 1) * (q1 - area**2) + (others - 1) * (q2 - area**2)
    return float((max(variance, 0.0) / (ours * others)) ** 0.5)


def _rank(predictions: Predictions) -> NDArray[np.int64]:
    """(N,): how many classes come before the true one; equally likely ones in their own order."""
    logits, labels = predictions.logits, predictions.labels
    true = logits[np.arange(len(logits)), labels][:, None]
    before = np.arange(logits.shape[1]) < labels[:, None]
    ranks: NDArray[np.int64] = ((logits > true) | ((logits == true) & before)).sum(1)
    return ranks


def _draws(predictions: Predictions) -> tuple[Floats, Floats]:
    """(DRAWS, 6) and (DRAWS, classes): `_figures` of images drawn with replacement."""
    draw, n = np.random.default_rng(0), len(predictions.labels)
    drawn = [_figures(predictions, draw.integers(0, n, n)) for _ in range(DRAWS)]
    return np.array([overall for overall, _ in drawn]), np.array([f1 for _, f1 in drawn])


def _figures(predictions: Predictions, rows: NDArray[np.int64] | None) -> tuple[Floats, Floats]:
    """Balanced accuracy, macro and weighted precision and F1, kappa; F1 a class, NaN for undefined.

    As scikit-learn defines them, but that a class with neither image nor answer counts for nothing,
    and nor does the precision of one that is never called. Balanced accuracy is macro recall, and
    weighted recall is accuracy.
    """
    labels, predicted = predictions.labels, predictions.predicted
    if rows is not None:
        labels, predicted = labels[rows], predicted[rows]
    k, n = len(predictions.classes), len(labels)
    true, called = np.bincount(labels, minlength=k), np.bincount(predicted, minlength=k)
    both = np.bincount(labels[labels == predicted], minlength=k)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN here, and says so
        f1 = 2 * both / (true + called)
        recall, precision = both / true, both / called
        chance = float((true / n) @ (called / n))
        kappa = (both.sum() / n - chance) / (1 - chance) if chance < 1 else np.nan
    known = true > 0
    weighted = float((f1[known] * true[known]).sum() / n)
    with np.errstate(invalid="ignore"):
        shares = np.where(np.isnan(precision), 0.0, true)
        precise = float(np.nansum(precision * true) / shares.sum()) if shares.sum() else np.nan
    figures = [
        recall[known].mean(), np.nanmean(precision), precise, np.nanmean(f1), weighted, kappa,
    ]  # fmt: skip
    return np.array(figures, dtype=float), f1


def _percentiles(drawn: Floats) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]
    if not len(known) or known.min() == known.max():  # draws that never differ know no doubt
        return np.nan, np.nan
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)
