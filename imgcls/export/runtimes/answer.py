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

BATCH, SINGLE, ROUNDS = 64, 32, 5


def main(runtime: str, model: str, pictures: str, answers: str) -> None:
    """See above."""
    sys.path.insert(0, str(Path(__file__).parent))
    answer, facts = importlib.import_module(f"run_{runtime}").load(model)
    asked = np.load(pictures)
    parts = [answer(asked[i : i + BATCH]) for i in range(0, len(asked), BATCH)]
    logits, probabilities = (np.concatenate(part) for part in zip(*parts, strict=True))
    ones = [answer(asked[i : i + 1])[0] for i in range(min(SINGLE, len(asked)))]
    alone, together = [], []
    for _ in range(ROUNDS):
        for i in range(min(SINGLE, len(asked))):
            alone.append(taken(answer, asked[i : i + 1]))
        batch = asked[:BATCH]
        together.append(taken(answer, batch) / len(batch))
    seconds = np.array([np.median(alone), np.median(together)])
    np.savez(
        answers, logits=logits, probabilities=probabilities, single=np.concatenate(ones),
        seconds=seconds, classes=np.array(facts["card"]["classes"]),
    )  # fmt: skip


def taken(answer: Any, pictures: Any) -> float:
    """Seconds of one answer."""
    start = time.perf_counter()
    answer(pictures)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
