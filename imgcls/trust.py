"""How far a model may be believed: calibrated shares, label sets, and pictures unlike all it knows.

Everything is fitted on images that the model did not learn from, and travels with it as numbers, so
that a prediction needs neither those images nor torch.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgcls import card
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError, RunError
from imgcls.evaluate import calibrate, predictions
from imgcls.runs import Run

PASSING = 0.95  # of known images, that are to be called known
RANKS = 1000  # values that stand for a distribution
PIXELS = 2**26  # that are looked at: all of 65,000 images of 32×32, 1,300 of 224×224
AT_ONCE = 2**20  # pixels that are floats at a time
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SMALLEST = 4  # pixels a side of the last of an image's halvings
FLOOR = 1e-5  # added to an energy, about that of one step of 255 in one pixel of a hundred
FEWEST = 4  # images; half of them tell what is usual
RIDGE = 1e-6  # added to a variance, so that what never varies can be divided by

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trust:
    """What is known of a model from `n` images that it did not learn from."""

    source: str  # which images, and which run's answers to them
    n: int
    temperature: float  # logits are divided by it: Guo et al. 2017
    label_sets: dict[str, float]  # coverage asked for, as 0.95: the least share of a label in a set
    center: Floats  # (D,) mean of `appearance`
    precision: Floats  # (D, D), the inverse of its covariance
    strangeness: Floats  # (RANKS,) ascending, of distances by the two above
    doubt: Floats  # (RANKS,) ascending, of 1 - the largest share
    limit: float  # of `unlikeness`; PASSING of the known images are at most this

    def shares(self, logits: NDArray[np.float32]) -> Floats:
        """(N, classes) calibrated probabilities."""
        return calibrate.scaled(logits, self.temperature)

    def unlikeness(self, pictures: Images, shares: Floats) -> Floats:
        """(N,), 0 and up: how much it says that (N, S, S, 3) pictures are not of the known kind.

        Fisher's combination, -ln p₁ - ln p₂, of two tails among known images: how strange a picture
        looks (Mahalanobis distance of `appearance`) and how little sure the model is (Hendrycks
        and Gimpel 2017, arXiv:1610.02136). The second alone does not see a digit or a blur.
        """
        strange = _distances(appearance(pictures), self.center, self.precision)
        tails = (_tail(strange, self.strangeness), _tail(1 - shares.max(1), self.doubt))
        total: Floats = -np.log(tails[0]) - np.log(tails[1])
        return total

    def known(self, pictures: Images, shares: Floats) -> NDArray[np.bool_]:
        """(N,) whether pictures are like those that the model was made for."""
        verdict: NDArray[np.bool_] = self.unlikeness(pictures, shares) <= self.limit
        return verdict

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Trust":
        """The inverse of `to_dict`."""
        arrays = ("center", "precision", "strangeness", "doubt")
        return cls(**(values | {name: np.array(values[name]) for name in arrays}))


def fit(
    source: str, pictures: Images, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> Trust:
    """From a model's answers to (N, S, S, 3) images that it did not learn from, N >= FEWEST."""
    temperature = calibrate.temperature(logits, labels)
    shares = calibrate.scaled(logits, temperature)
    looks: Floats = appearance(pictures)
    # Every other image tells what is usual, the rest how unusual a known image may be.
    center: Floats = looks[::2].mean(0)
    spread = np.cov(looks[::2].T) + RIDGE * np.eye(looks.shape[1])
    precision: Floats = np.linalg.inv(spread).astype(np.float64)
    trust = Trust(
        source=source,
        n=len(labels),
        temperature=temperature,
        label_sets={
            f"{wanted:g}": calibrate.label_threshold(shares, labels, wanted)
            for wanted in calibrate.COVERAGES
        },
        center=center,
        precision=precision,
        strangeness=_ranks(_distances(looks[1::2], center, precision)),
        doubt=_ranks(1 - shares[1::2].max(1)),
        limit=np.inf,
    )
    unlike = np.sort(trust.unlikeness(pictures[1::2], shares[1::2]))
    rank = int(np.ceil((len(unlike) + 1) * PASSING))  # as conformal prediction takes it
    return replace(trust, limit=float(unlike[min(rank, len(unlike)) - 1]))


def of_run(run: Run) -> Trust | None:
    """From a run's stored answers to its validation images; None where it has none to trust.

    A run that learned from its validation images has nothing to be judged by, nor has an imported
    one, nor one whose answers are not stored. Raises RunError where what came with it is damaged.
    """
    if run.trust_path.exists():  # fitted elsewhere, as for the model that ships with the app
        return _read(run.trust_path, run.trust_path.stat().st_mtime_ns)
    try:
        if predictions.learned(run, "validation"):
            return None
        changed = run.predictions_path("validation").stat().st_mtime_ns
        model = run.model_path.stat().st_mtime_ns
        return _of_run(run, changed, model, catalog.load(run.config.dataset).fingerprint)
    except (ImgclsError, OSError):
        return None


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Trust:
    try:
        return Trust.from_dict(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError):
        raise RunError(f"{path.parent.name}/{path.name} is damaged: import it again.") from None


@lru_cache(maxsize=8)
def _of_run(run: Run, changed: int, model: int, data: str) -> Trust | None:
    # Times and fingerprint are in the key, so a changed model or data set is looked at anew.
    answers = predictions.load(run, "validation")
    if answers is None or len(answers.labels) < FEWEST:
        return None
    size = card.read(run.model_path).size
    most = min(len(answers.labels), max(FEWEST, PIXELS // size**2))
    rows = np.linspace(0, len(answers.labels) - 1, most).round().astype(np.int64)
    pictures = predictions.pictures(run, "validation", rows)
    source = f"{len(rows):,} validation images of {answers.dataset}, as {run.id} answers them"
    return fit(source, pictures, answers.logits[rows], answers.labels[rows])


def appearance(pictures: Images) -> Floats:
    """(N, D) of uint8 (N, S, S, 3) pictures: brightness, contrast, detail at each scale, colour.

    Log energies of the Haar wavelet's three directions, of luminance at each halving down to
    4 pixels and of both colour differences at the last one, with the means of all three and the log
    variance of luminance. Finer colour is left out: JPEG files halve it, and a picture would be
    strange for having been saved as PNG.
    """
    found = []
    at_once = max(1, AT_ONCE // pictures.shape[1] ** 2)
    for start in range(0, len(pictures), at_once):
        rgb = pictures[start : start + at_once].astype(np.float32) / 255
        luma = rgb @ np.array(LUMA, np.float32)
        found.append(
            np.stack(
                [
                    luma.mean((1, 2)), np.log(luma.var((1, 2)) + FLOOR), *_details(luma),
                    *(part for color in (rgb[..., 2] - luma, rgb[..., 0] - luma)
                      for part in (color.mean((1, 2)), *_details(color)[-3:])),
                ],
                axis=1,
            )
        )  # fmt: skip
    return np.concatenate(found).astype(np.float64)


def _details(plane: NDArray[Any]) -> list[NDArray[Any]]:
    """Log energies of (N, H, W): across, down and diagonal at each halving, the finest first."""
    found = []
    while True:
        even = plane[:, : plane.shape[1] // 2 * 2, : plane.shape[2] // 2 * 2]
        a, b, c, d = even[:, ::2, ::2], even[:, 1::2, ::2], even[:, ::2, 1::2], even[:, 1::2, 1::2]
        for part in (a + b - c - d, a - b + c - d, a - b - c + d):
            found.append(np.log((part**2).mean((1, 2)) + FLOOR))
        plane = (a + b + c + d) / 4
        if min(plane.shape[1:]) < 2 * SMALLEST:
            return found


def _distances(looks: Floats, center: Floats, precision: Floats) -> Floats:
    """(N,) squared Mahalanobis distances."""
    apart = looks - center
    squared: Floats = np.einsum("nd,de,ne->n", apart, precision, apart)
    return squared


def _ranks(values: Floats) -> Floats:
    ranks: Floats = np.quantile(values, (np.arange(RANKS) + 0.5) / RANKS)
    return ranks


def _tail(values: Floats, among: Floats) -> Floats:
    """(N,) the share of a distribution that is at least as large, never 0."""
    below = np.searchsorted(among, values, side="left")
    share: Floats = (len(among) - below + 1) / (len(among) + 1)
    return share
