"""How far a run may be believed, fitted on its answers to images that it did not learn from."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls import card
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.errors import ImgclsError, RunError
from imgcls.evaluate import calibrate, predictions
from imgcls.runs import Run
from imgcls.trust import Floats, Trust, appearance, distances

PASSING = 0.95  # of known images, that are to be called known
RANKS = 1000  # values that stand for a distribution
PIXELS = 2**26  # that are looked at: all of 65,000 images of 32×32, 1,300 of 224×224
FEWEST = 4  # images; half of them tell what is usual
RIDGE = 1e-6  # added to a variance, so that what never varies can be divided by


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
        strangeness=_ranks(distances(looks[1::2], center, precision)),
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


def _ranks(values: Floats) -> Floats:
    ranks: Floats = np.quantile(values, (np.arange(RANKS) + 0.5) / RANKS)
    return ranks
