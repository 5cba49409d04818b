"""What a run keeps of its answers to validation images, epoch by epoch.

It is bounded: of a long run every second, third, … evaluation stays, the first and the newest
always. `imgcls.evaluate.dynamics` reads them. This module imports neither torch nor streamlit.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.config import TrainConfig
from imgcls.runs import Run

MOST = 60  # evaluations kept of a run
MOST_BYTES = 2**26  # of all of them: 600 of 5,000 images and 10 classes


def keep(run: Run, epoch: int, logits: NDArray[np.float16]) -> None:
    """Store a run's answers (N, classes) after an epoch, and thin out those before.

    Files of later epochs go: they are of a time that is now taught again.
    """

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # np.save would add .npy to a path
            np.save(file, logits)

    run.save_answers(epoch, write)
    every = stride(run.config, logits.nbytes)
    number = _evaluation(run.config, epoch)
    for other in run.answered_epochs():
        before = _evaluation(run.config, other)
        if other > epoch or (before < number and (before - 1) % every):
            run.answers_path(other).unlink(missing_ok=True)


def stride(settings: TrainConfig, size: int) -> int:
    """Of how many evaluations one is kept, where each takes `size` bytes."""
    most = max(2, min(MOST, MOST_BYTES // max(1, size)))
    evaluations = _evaluation(settings, settings.epochs)
    if evaluations <= most:
        return 1
    return -(-evaluations // (most - 1))  # the newest is kept besides


def _evaluation(settings: TrainConfig, epoch: int) -> int:
    """Which evaluation an epoch ended with, from 1; the last epoch has one whatever its number."""
    return -(-epoch // settings.eval_every)
