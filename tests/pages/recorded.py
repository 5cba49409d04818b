"""Run directories as a worker would have left them, without the training."""

import os
from contextlib import contextmanager
from datetime import datetime

from imgcls import recipes, runs
from imgcls.events import Ended, Epoch, Queued, Started, Step
from imgcls.runs import Run

STARTED = Started(
    time=0.0, device="CPU, 2 cores", precision="fp32", threads=2, parameters=1234,
    steps_per_epoch=10, train_images=54, validation_images=6, versions={},
)  # fmt: skip


def record(
    state: str = "finished", epochs: int = 2, *, dataset: str = "tiny", recipe: str = "quick",
    hour: int = 1, reason: str = "Said by the worker.",
) -> Run:  # fmt: skip
    """A run of so many epochs; state interrupted leaves out the last word."""
    settings = recipes.config_for(recipe, dataset)
    run = runs.create(settings, "f" * 64, datetime(2026, 1, 2, hour, 0, 0))
    run.append(STARTED)
    for epoch in range(1, epochs + 1):
        run.append(step(epoch * 10, epoch))
        run.append(
            Epoch(
                epoch=epoch, step=epoch * 10, train_loss=1 / epoch, train_accuracy=0.6,
                val_loss=1.1 / epoch, val_accuracy=0.5 + epoch / 100, lr=0.1, best=True,
                seconds=epoch * 3.0,
            )
        )  # fmt: skip
    if state != "interrupted":
        run.append(Ended(time=1.0, state=state, step=epochs * 10, reason=reason))
    return run


def step(number: int, epoch: int, loss: float = 0.5) -> Step:
    return Step(
        step=number, epoch=epoch, loss=loss, accuracy=0.75, lr=0.1, images_per_second=1234.0,
        memory_mb=321.0, seconds=number * 0.3,
    )  # fmt: skip


@contextmanager
def alive(run: Run, queued: bool = False):
    """Hold the run's lock as its worker would."""
    handle = run.lock()
    run.append(Queued(time=0.0, device="cpu") if queued else step(25, 3))
    try:
        yield run
    finally:
        os.close(handle)
