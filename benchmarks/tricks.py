"""What single tricks of the loop are worth: the same steps with and without, in turns.

Some can be set only when a process begins, so each side is a process of its own, which takes real
training steps (`train.take_step`) for some seconds whenever it is asked, and sleeps otherwise.

    python -m benchmarks.tricks JSON       one side; reads seconds from stdin, writes images/s
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import torch

from benchmarks import Row, in_turn
from imgcls import recipes, sitting, train
from imgcls.models import quicker

CORES = psutil.cpu_count(logical=False) or 1
SIDE: dict[str, Any] = {
    "environment": {"OMP_WAIT_POLICY": "PASSIVE"},
    "settings": {"precision": "bf16", "threads": CORES},
    "narrow": quicker.NARROW,
    "contiguous": False,
    "denormals": False,
}
LARGE = str(1 << 30)
FREE = {**SIDE["settings"], "mirror_pairs": False}
TRICKS: dict[str, dict[str, Any]] = {  # what the side with the trick has otherwise
    "bf16 against fp32": {"without": {"settings": {**SIDE["settings"], "precision": "fp32"}}},
    f"{CORES} threads against one": {"without": {"settings": {**SIDE["settings"], "threads": 1}}},
    "threads that wait actively": {"environment": {"OMP_WAIT_POLICY": "ACTIVE"}},
    "threads that spin briefly": {"environment": {"GOMP_SPINCOUNT": "10000"}},
    "filters in mirrored pairs": {"without": {"settings": FREE}},
    "images side by side, filters free": {
        "settings": FREE,
        "narrow": 8,
        "without": {"settings": FREE, "narrow": 0},
    },
    "memory kept by malloc": {
        "environment": {
            **SIDE["environment"],
            "MALLOC_MMAP_THRESHOLD_": LARGE,
            "MALLOC_TRIM_THRESHOLD_": LARGE,
            "MALLOC_TOP_PAD_": str(1 << 28),
        }
    },
    "channels-last": {"without": {"contiguous": True}},
    "flushed denormals": {"without": {"denormals": True}},
    "micro-batches of 125": {"settings": {**SIDE["settings"], "micro_batch": 125}},
    "micro-batches of 50": {"settings": {**SIDE["settings"], "micro_batch": 50}},
}


def rows(dataset: str = "cifar10", repeats: int = 5, seconds: float = 4.0) -> Iterator[Row]:
    """Images a second of recipe `speed` at full size, with each trick and without."""
    for name, change in TRICKS.items():
        sides = [SIDE | change.get("without", {}), SIDE | _with(change)]
        processes = [_begin({**side, "dataset": dataset}) for side in sides]
        try:
            rates: list[list[float]] = [[], []]
            for _, which in in_turn(2, repeats):
                rates[which].append(_ask(processes[which], seconds))
        finally:
            for process in processes:
                process.kill()
                process.wait()
        without = Row(f"speed_net without: {name}", tuple(rates[0]), "images/s")
        yield without
        yield Row(f"speed_net with: {name}", tuple(rates[1]), "images/s", without)


def _with(change: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in change.items() if key != "without"}


def _begin(side: dict[str, Any]) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.tricks", json.dumps(side)],
        env={**os.environ, **side["environment"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _ask(process, 1.0)  # first steps choose kernels
    return process


def _ask(process: "subprocess.Popen[str]", seconds: float) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def answer(side: dict[str, Any]) -> None:
    """Train for as many seconds as each line of stdin says, and tell the images a second."""
    settings = recipes.config_for("speed", side["dataset"], start_size=0, **side["settings"])
    begun = sitting.begin(settings, format=(settings.precision, settings.threads))
    state, split = begun.state, begun.train
    quicker.NARROW = side["narrow"]
    if side["contiguous"]:
        state.model.to(memory_format=torch.contiguous_format)
    torch.set_flush_denormal(not side["denormals"])
    generator, batch = torch.Generator(), settings.batch_size
    a_epoch = train.steps_per_epoch(len(split), batch)
    train.training_mode(state.model)
    for line in sys.stdin:
        start, images = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < float(line):
            rows = torch.arange(batch) + state.step % a_epoch * batch
            train.take_step(state, split, rows.remainder(len(split)), a_epoch, generator)
            images += batch
        print(images / passed, flush=True)


if __name__ == "__main__":
    answer(json.loads(sys.argv[1]))
