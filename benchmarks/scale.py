"""Training speed and memory with 10,000, 50,000 and 500,000 images: one data set, tiled.

Each measurement is a process of its own, since a peak of memory belongs to a process. The network
is the smallest one in batches of 128, so that the images' way to it weighs most. Anonymous memory
is what a process holds for itself; pages of the mapped file are the system's, which drops them
when it needs room.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import Row, in_turn, own_home
from imgcls import recipes
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.errors import RunError

SIZES = (10_000, 50_000, 500_000)
RECIPE, CHANGES = "tutorial-net", {"batch_size": 128, "epochs": 500}
WARM_UP = 2.0  # seconds of training that do not count
POLL = 0.05  # seconds between two looks at a process's memory


def rows(
    dataset: str = "cifar10", repeats: int = 3, seconds: float = 10.0
) -> Iterator[Row | dict[str, Any]]:
    """Images a second, anonymous memory and all resident memory of each size, sizes in turn."""
    with own_home(dataset):
        for size in SIZES:
            tile(dataset, f"images-{size}", size)
        fixed = agreed(f"images-{SIZES[0]}")
        found: list[list[dict[str, float]]] = [[] for _ in SIZES]
        for _, which in in_turn(len(SIZES), repeats):
            found[which].append(alone(f"images-{SIZES[which]}", seconds, fixed))
            yield {"kind": "scale", "images": SIZES[which], **fixed, **found[which][-1]}
    for name, unit in (("rate", "images/s"), ("anonymous", "MB"), ("resident", "MB")):
        first = None
        for size, results in zip(SIZES, found, strict=True):
            what = {
                "rate": "training",
                "anonymous": "peak anonymous memory",
                "resident": "peak resident memory",
            }[name]
            note = f"file of {size * 3072 / 2**20:,.0f} MB" if name == "resident" else ""
            row = Row(
                f"{what}, {size:,} images", tuple(r[name] for r in results), unit, first, note
            )
            first = first or row
            yield row


def tile(source: str, name: str, size: int) -> None:
    """Publish a data set of so many images: those of `source` again and again."""
    images, labels = catalog.arrays(source, "train")
    facts = catalog.load(source)
    with catalog.publishing(name) as draft:
        many = np.lib.format.open_memmap(
            draft / "train.images.npy", "w+", np.uint8, (size, *images.shape[1:])
        )
        for start in range(0, size, len(images)):
            part = min(len(images), size - start)
            many[start : start + part] = images[:part]
        many.flush()
        catalog.write(
            draft,
            name=name,
            classes=facts.classes,
            splits={"train": (many, np.resize(labels, size))},
            resized=facts.resized,
            source=f"{source}, tiled",
        )


def settings_for(dataset: str, **more: Any) -> TrainConfig:
    """What is trained here."""
    return recipes.config_for(RECIPE, dataset, **CHANGES, **more)


def agreed(dataset: str) -> dict[str, Any]:
    """Number format and threads for all sizes alike, as they are chosen for the first."""
    command = "import sys; from benchmarks import scale; scale.choose(sys.argv[1])"
    answer: dict[str, Any] = json.loads(_output(command, dataset))
    return answer


def choose(dataset: str) -> None:
    """Print what `imgcls.sitting` chooses; for a process of its own."""
    import torch

    from imgcls import sitting

    begun = sitting.begin(settings_for(dataset))
    print(json.dumps({"precision": begun.state.precision, "threads": torch.get_num_threads()}))


def alone(dataset: str, seconds: float, fixed: dict[str, Any]) -> dict[str, float]:
    """Rate and peaks of memory of a process that trains for so many seconds."""
    command = "import sys; from benchmarks import scale; scale.train_for(*sys.argv[1:])"
    found: dict[str, float] = json.loads(_output(command, dataset, str(seconds), json.dumps(fixed)))
    return found


def _output(command: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        cwd=Path(__file__).resolve().parents[1],
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RunError(f"Training at scale failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.splitlines()[-1]


def train_for(dataset: str, seconds: str, fixed: str) -> None:
    """Train and print rate and peaks; for a process of its own."""
    from imgcls import sitting, train

    peaks = {"anonymous": 0.0, "resident": 0.0}
    threading.Thread(target=_watch_memory, args=(peaks,), daemon=True).start()
    begun = sitting.begin(settings_for(dataset, **json.loads(fixed)))
    batch, start, first = begun.state.settings.batch_size, time.perf_counter(), 0
    counting = False
    for _event in train.fit(begun.state, begun.train, None):
        passed = time.perf_counter() - start
        if not counting and passed >= WARM_UP:
            start, first, counting = time.perf_counter(), begun.state.step, True
        elif counting and passed >= float(seconds):
            rate = (begun.state.step - first) * batch / passed
            print(json.dumps({"rate": rate, **peaks}), flush=True)
            return


def _watch_memory(peaks: dict[str, float]) -> None:
    """Keep the highest memory of this process, in MB, until it ends.

    Anonymous is what is resident and not shared with a file; only Linux tells, elsewhere it is all.
    """
    process = psutil.Process()
    while True:
        memory = process.memory_info()
        own = memory.rss - getattr(memory, "shared", 0)
        peaks["resident"] = max(peaks["resident"], memory.rss / 2**20)
        peaks["anonymous"] = max(peaks["anonymous"], own / 2**20)
        time.sleep(POLL)
