"""Whether one run is better than another, from both runs' answers to the same images.

Two accuracies with overlapping intervals may still differ for real: the runs saw the same images,
and what counts is where they disagree. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from imgcls.errors import DataError
from imgcls.evaluate import predictions
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run

ALPHA = 0.05  # a difference is called real where chance alone makes it, or more, less often
MOST = 12  # runs at once: 66 pairs


@dataclass(frozen=True)
class Pair:
    """Run B against run A on the same images."""

    a: str  # run ids
    b: str
    n: int  # images
    only_a: int  # images that only A calls right
    only_b: int
    difference: float  # accuracy of B minus accuracy of A, -1..1
    low: float  # its 95 % interval, -1..1
    high: float
    p: float  # 0..1, of the exact McNemar test
    p_holm: float  # 0..1, corrected for all pairs that were compared at once

    @property
    def real(self) -> bool:
        """Whether chance alone is a poor explanation."""
        return self.p_holm < ALPHA

    @property
    def verdict(self) -> str:
        """In words."""
        return "real difference" if self.real else "within noise"


def pairs(runs: Sequence[Predictions]) -> list[Pair]:
    """Every pair of two and more runs, in the order given.

    Raises DataError where they did not answer for the same images, or are too few or too many.
    """
    check_number(len(runs))
    for other in runs[1:]:
        _check_same(runs[0], other)
    both = list(combinations(runs, 2))
    outcomes = [(disagreements(a, b), a, b) for a, b in both]
    p_values = [mcnemar(only_a, only_b) for (only_a, only_b), _, _ in outcomes]
    return [
        Pair(
            a.run,
            b.run,
            len(a.labels),
            only_a,
            only_b,
            (only_b - only_a) / len(a.labels),
            *difference_interval(only_a, only_b, len(a.labels)),
            p,
            corrected,
        )
        for ((only_a, only_b), a, b), p, corrected in zip(
            outcomes, p_values, holm(p_values), strict=True
        )
    ]


def check_number(runs: int) -> None:
    """Raise DataError for too few runs to compare, or too many."""
    if not 2 <= runs <= MOST:
        raise DataError(f"Choose 2 to {MOST} different runs to compare: these are {runs}.")


def check_fair(compared: Sequence[Run], split: str) -> None:
    """Raise DataError where some of the runs have learned from the images, and others have not.

    Of imported models nobody knows: `predictions.caution` says so.
    """
    known = [run for run in compared if run.config.recipe != "imported"]
    learned = [run.id for run in known if predictions.learned(run, split)]
    if 0 < len(learned) < len(known):
        raise DataError(
            f"{', '.join(learned)} learned from these {split} images, the others did not: a "
            "comparison would be unfair. Compare them on test."
        )


def disagreements(a: Predictions, b: Predictions) -> tuple[int, int]:
    """Images that only A calls right, and that only B does."""
    return int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test: only_a of their sum under a fair coin; 1 for none.

    Source: McNemar 1947, Psychometrika 12, 153-157; exact by the binomial distribution.
    """
    if not only_a + only_b:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def difference_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired shares, (only_b - only_a) / n; n >= 1.

    Adjusted Wald: with p = (only + 1) / (n + 2) of each, p_b - p_a ± z·√((p_a + p_b -
    (p_b - p_a)²) / (n + 2)), kept within -1..1. Source: Bonett and Price 2012, J. Educ. Behav.
    Stat. 37, 479-488.
    """
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    middle = share_b - share_a
    spread = float(norm.ppf(0.975)) * ((share_a + share_b - middle**2) / (n + 2)) ** 0.5
    return max(-1.0, middle - spread), min(1.0, middle + spread)


def p_text(p: float) -> str:
    """A p value with as many digits as matter."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being many, in their order: the chance that any of them errs is kept.

    The i-th smallest of m times m - i + 1, at least as large as the one before it, at most 1.
    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    values = np.asarray(p_values, dtype=float)
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = stepped.clip(max=1.0)
    result: list[float] = corrected.tolist()
    return result


def only_right(a: Predictions, b: Predictions) -> NDArray[np.int64]:
    """Rows that A calls right and B wrong, those first that B is surest about."""
    rows = np.flatnonzero(a.correct & ~b.correct)
    order = np.argsort(-b.confidence[rows], kind="stable")
    return rows[order].astype(np.int64)


def recalls(runs: Sequence[Predictions]) -> NDArray[np.float64]:
    """(runs, classes) share of a true class that a run calls right; NaN for one without image."""
    support = np.bincount(runs[0].labels, minlength=len(runs[0].classes))
    right = [np.bincount(r.labels[r.correct], minlength=len(r.classes)) for r in runs]
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN here, and says so
        shares: NDArray[np.float64] = np.array(right) / support
    return shares


def _check_same(a: Predictions, b: Predictions) -> None:
    if a.dataset != b.dataset:
        raise DataError(
            f"{a.run} was judged on {a.dataset}, {b.run} on {b.dataset}: "
            "runs can be compared on the same images only."
        )
    if a.split != b.split or a.tta != b.tta:
        raise DataError(f"{a.run} and {b.run} were judged in different ways: judge them alike.")
    same = np.array_equal(a.indices, b.indices) and np.array_equal(a.labels, b.labels)
    if not same or a.classes != b.classes:
        raise DataError(
            f"{a.run} and {b.run} have different {a.split} images of {a.dataset}: they split it "
            "differently, or it was changed between them. Compare them on test, or train one anew."
        )
