"""Runs that differ in nothing but their seed: how much of a figure is luck. Needs no torch."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imgcls import runs, studies
from imgcls.config import TrainConfig
from imgcls.errors import ImgclsError
from imgcls.evaluate import calibrate, metrics
from imgcls.evaluate.predictions import Predictions
from imgcls.runs import Run, State


@dataclass(frozen=True)
class Spread:
    """One figure over several seeds."""

    name: str
    values: tuple[float, ...]  # a run each, in the order of the runs
    mean: float
    sd: float  # standard deviation over seeds, n - 1 in the denominator
    interval: tuple[float, float] | None  # of the mean, 95 %, by Student's t; None without spread


def siblings(run: Run) -> list[Run]:
    """The finished runs with this run's settings and data; one a seed, the newest.

    The run itself stands for its own seed, if it has finished too.
    """
    wanted, data = _but_seed(run.config), run.facts["fingerprint"]
    found: dict[int, Run] = {}
    for other in runs.all_runs():
        try:
            same = _but_seed(other.config) == wanted and other.facts["fingerprint"] == data
            usable = other.model_path.exists() and other.state() == State.FINISHED
        except ImgclsError:
            continue  # damaged: nobody knows what it was
        if same and usable:
            found.setdefault(other.config.seed, other)
    if run.state() == State.FINISHED:
        found[run.config.seed] = run
    return [found[seed] for seed in sorted(found)]


def figures(answers: Predictions) -> dict[str, float]:
    """What is told of each seed: shares 0..1 but for the log loss."""
    found = metrics.summary(answers)
    return {
        "accuracy": found.accuracy,
        "macro F1": found.macro.f1,
        "log loss, nats": found.loss,
        "expected calibration error": calibrate.errors(answers.logits, answers.labels, 1.0).ece,
    }


def spreads(told: Sequence[dict[str, float]]) -> list[Spread]:
    """Mean and standard deviation of each figure over the `figures` of two or more runs."""
    found = []
    for name in told[0]:
        values = tuple(one[name] for one in told)
        interval = studies.student(values)
        found.append(
            Spread(name, values, statistics.fmean(values), statistics.stdev(values), interval)
        )
    return found


def _but_seed(settings: TrainConfig) -> TrainConfig:
    return replace(settings, seed=0, study="", tensorboard=False)
