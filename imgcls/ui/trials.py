"""Trials for the Train page, run in a child process; plain values come back, nothing of torch."""

from dataclasses import asdict
from typing import Any

from imgcls.config import TrainConfig
from imgcls.ui.tasks import Progress


def learning_rate(settings: TrainConfig, *, progress: Progress) -> dict[str, Any]:
    """`finder.learning_rate` as a dictionary."""
    from imgcls import finder

    return asdict(finder.learning_rate(settings, progress))


def batch_size(settings: TrainConfig, *, progress: Progress) -> dict[str, Any]:
    """`finder.batch_size` as a dictionary, and what it means for the learning rate as `advice`."""
    from imgcls import finder

    fit = finder.batch_size(settings, progress)
    return {**asdict(fit), "advice": finder.scaled_rate(settings, fit.batch_size)}
