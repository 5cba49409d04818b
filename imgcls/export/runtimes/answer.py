"""Answers of a model file to pictures, in a process that has loaded nothing else.

    python answer.py RUNTIME MODEL PICTURES.npy ANSWERS.npz

The module run_RUNTIME.py beside this one loads the file. PICTURES.npy is uint8 (N, S, S, 3);
ANSWERS.npz gets `logits` and `probabilities` (N, classes), `single`, the logits of the first few
pictures asked one by one, and `seconds`, of one picture and of one in a batch, medians.
"""

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH, SINGLE = 64, 32


def main(runtime: str, model: str, pictures: str, answers: str) -> None:
    """See above."""
    sys.path.insert(0, str(Path(__file__).parent))
    answer, facts = importlib.import_module(f"run_{runtime}").load(model)
    asked = np.load(pictures)
    answer(asked[:1])  # what is made ready by the first answer is no part of one
    ones, alone = timed(answer, asked[:SINGLE], 1)
    parts, together = timed(answer, asked, BATCH)
    logits, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    seconds = np.array([np.median(alone), np.median(together) / min(BATCH, len(asked))])
    np.savez(
        answers, logits=logits, probabilities=probabilities,
        single=np.concatenate([one[0] for one in ones]),
        seconds=seconds, classes=np.array(facts["card"]["classes"]),
    )  # fmt: skip


def timed(answer: Any, pictures: Any, batch: int) -> tuple[list[Any], list[float]]:
    """The answers to pictures, so many at a time, and the seconds that each answer took."""
    answers, seconds = [], []
    for i in range(0, len(pictures), batch):
        start = time.perf_counter()
        answers.append(answer(pictures[i : i + batch]))
        seconds.append(time.perf_counter() - start)
    return answers, seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
