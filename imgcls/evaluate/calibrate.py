"""Whether a model's confidence means anything, and what to do with it. Needs no torch.

Everything fitted (temperature, conformal threshold) is fitted on one split and judged on another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from imgcls.errors import DataError

COVERAGES = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)  # that label sets are asked for
BINS = 15  # of equal width; Guo et al. 2017
COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are looked through

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy; a bin without images is NaN in both."""

    edges: Floats  # (bins + 1,), 0..1
    counts: NDArray[np.int64]  # (bins,) images
    confidence: Floats  # (bins,) mean, 0..1
    accuracy: Floats  # (bins,) 0..1
    ece: float  # 0..1, expected calibration error
    mce: float  # 0..1, maximum calibration error


@dataclass(frozen=True)
class Conformal:
    """Sets of labels that hold the true one as often as was asked for."""

    wanted: float  # 0..1, the coverage asked for
    threshold: float  # 0..1: labels at least so probable are in the set
    coverage: float  # 0..1, of the images judged: sets that hold the true label
    size: float  # mean labels a set
    empty: float  # 0..1: sets with no label
    single: float  # 0..1: sets with one


def reliability(shares: Floats, labels: NDArray[np.int64], bins: int = BINS) -> Reliability:
    """(N, classes) probabilities and (N,) labels, N >= 1, by confidence in bins of equal width.

    ECE is the mean over images of |accuracy - confidence| of their bin, MCE the largest such gap.
    Source: Guo et al. 2017, arXiv:1706.04599, section 2; Naeini et al. 2015 (AAAI).
    """
    confidence, right = shares.max(1), shares.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (low, high]
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN here, and says so
        mean = np.bincount(which, confidence, bins) / counts
        accuracy = np.bincount(which, right, bins) / counts
    gaps = np.abs(accuracy - mean)
    filled = counts > 0
    ece = float((gaps[filled] * counts[filled]).sum() / len(labels))
    return Reliability(
        edges, counts.astype(np.int64), mean, accuracy, ece, float(gaps[filled].max())
    )


def overconfidence(sure: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """The 95 % interval of mean confidence less accuracy, -1..1, of (N,) images each.

    Of the mean difference an image, normal; (-1, 1) for a single image.
    """
    gaps = sure - right
    if len(gaps) < 2:
        return -1.0, 1.0
    half = float(norm.ppf(0.975)) * float(gaps.std(ddof=1)) / len(gaps) ** 0.5
    return float(gaps.mean()) - half, float(gaps.mean()) + half


def brier(shares: Floats, labels: NDArray[np.int64]) -> float:
    """Mean over images of Σ (probability - 1 of the true class, 0 else)²: 0 best, 2 worst.

    Source: Brier 1950, Monthly Weather Review 78, 1-3.
    """
    true = shares[np.arange(len(labels)), labels]
    return float(((shares**2).sum(1) - 2 * true + 1).mean())


def log_loss(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> float:
    """Mean of -ln(probability of the true class) in nats, with logits over the temperature."""
    shares = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return float(-shares[np.arange(len(labels)), labels].mean())


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """What to divide logits by for the least log loss on these images: over 1 was too sure.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2. At the end of 0.05..20 where a model
    makes no mistake, or never does better than chance.
    """
    found = minimize_scalar(
        lambda log: log_loss(logits, labels, float(np.exp(log))),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(np.exp(found.x))


def scaled(logits: NDArray[np.float32], temperature: float) -> Floats:
    """(N, classes) probabilities from logits over the temperature."""
    shares: Floats = softmax(logits.astype(np.float64) / temperature, axis=1)
    return shares


@dataclass(frozen=True)
class Errors:
    """How far confidence is from the truth."""

    ece: float  # 0..1, expected calibration error
    mce: float  # 0..1, maximum calibration error
    brier: float  # 0..2
    loss: float  # nats an image


def errors(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> Errors:
    """All of them, of probabilities from logits over the temperature."""
    shares = scaled(logits, temperature)
    found = reliability(shares, labels)
    loss = log_loss(logits, labels, temperature)
    return Errors(found.ece, found.mce, brier(shares, labels), loss)


def risk_coverage(shares: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """What it costs to answer only when sure: (thresholds, coverage, risk), each (N,).

    At threshold t the images with confidence >= t are answered; coverage is their share of all,
    risk the share of them that is wrong. Thresholds fall. Source: El-Yaniv and Wiener 2010,
    JMLR 11, 1605-1641.
    """
    confidence, wrong = shares.max(1), shares.argmax(1) != labels
    order = np.argsort(-confidence, kind="stable")
    answered = np.arange(1, len(labels) + 1)
    sorted_confidence = confidence[order]
    # Of images that are equally sure all or none are answered.
    last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True)
    risk = np.cumsum(wrong[order]) / answered
    return sorted_confidence[last], (answered / len(labels))[last], risk[last]


def label_threshold(held: Floats, held_labels: NDArray[np.int64], coverage: float) -> float:
    """The least probability of a label in a set that is to hold the true one so often: `conformal`.

    Raises DataError for a coverage outside 0..1.
    """
    if not 0 < coverage < 1:
        raise DataError(f"A coverage of {coverage:g} cannot be had: choose one between 0 and 1.")
    true = -np.sort(-held[np.arange(len(held_labels)), held_labels])  # the largest first
    rank = int(np.ceil((len(true) + 1) * coverage))
    return 0.0 if rank > len(true) else float(true[rank - 1])


def conformal(
    held: Floats,
    held_labels: NDArray[np.int64],
    shares: Floats,
    labels: NDArray[np.int64],
    coverage: float,
) -> Conformal:
    """Label sets with a threshold from held-out images, judged on others; coverage in 0..1.

    A label is in the set where its probability is at least the ⌈(n + 1)·coverage⌉-th largest
    probability that n held-out images give their true label; every label is in where n is too small
    for that. If both come from one source, sets hold the true label that often on
    average. Source: Sadinle, Lei and Wasserman 2019, JASA 114; Angelopoulos and Bates 2021,
    arXiv:2107.07511, section 1. Raises DataError for a coverage outside 0..1.
    """
    threshold = label_threshold(held, held_labels, coverage)
    sets = shares >= threshold
    sizes = sets.sum(1)
    return Conformal(
        wanted=coverage,
        threshold=threshold,
        coverage=float(sets[np.arange(len(labels)), labels].mean()),
        size=float(sizes.mean()),
        empty=float((sizes == 0).mean()),
        single=float((sizes == 1).mean()),
    )
