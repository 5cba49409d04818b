"""Images a second of our loop, of a loop as the tutorials write it, and of the computing alone.

All three train in one process and take turns of a few seconds. The plain loop's worker processes
are stopped (SIGSTOP) while it waits, so they neither take the cores from the others nor work ahead:
batches that lie ready when a turn ends are there when the next begins. What our loop sets for the
process, flushing denormals, the plain loop has too; number of threads is its own, torch's default.
"""

import copy
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
import torch.nn.functional as F

from benchmarks import Row, in_turn, plain
from imgcls import machine, models, optim, recipes, sitting, train
from imgcls.config import TrainConfig
from imgcls.data import catalog, tensors
from imgcls.models import quicker
from imgcls.sitting import Sitting

WARM_UP = 0.5  # seconds of each turn that do not count, a step at least
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "net at batch 4": ("tutorial-net", {}),
    "net at batch 128": ("tutorial-net", {"batch_size": 128}),
    "cnn at batch 128": ("tutorial-cnn", {}),
    "resnet18 at batch 256": ("tutorial-resnet18", {"pretrained": False}),
    # Full size and no average from the first step, as the plain loop has it, and no cutout.
    "speed_net as in speed": ("speed", {"start_size": 0, "ema": 0.0, "cutout": 0}),
}


@dataclass
class Loop:
    """A loop that yields how many images it took since it last did; a GPU may lag behind."""

    images: Generator[int, None, None]
    threads: int
    workers: list[psutil.Process] = field(default_factory=list)  # stopped while it waits

    def rate(self, seconds: float) -> float:
        """Images a second over a turn of so many seconds."""
        torch.set_num_threads(self.threads)
        plain.signal(self.workers, "resume")
        start = time.perf_counter()
        while next(self.images) == 0 or time.perf_counter() - start < WARM_UP:
            pass
        _finish()
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            images += next(self.images)
        _finish()
        passed = time.perf_counter() - start
        plain.signal(self.workers, "suspend")
        return images / passed

    def close(self) -> None:
        """End its worker processes."""
        plain.signal(self.workers, "resume")
        self.images.close()


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rows(dataset: str = "cifar10", repeats: int = 3, seconds: float = 4.0) -> Iterator[Row]:
    """Our loop against the plain one, and against the computing alone, for each of CASES."""
    catalog.load(dataset)
    for case, (recipe, changes) in CASES.items():
        settings = recipes.config_for(recipe, dataset, epochs=500, **changes)
        yield from measured(case, settings, repeats, seconds)


def measured(case: str, settings: TrainConfig, repeats: int, seconds: float) -> Iterator[Row]:
    """The rows of one case."""
    default = torch.get_num_threads()
    begun = sitting.begin(settings)
    format = f"{begun.state.precision}, {torch.get_num_threads()} threads"
    loops = [plain_loop(settings, default), bound(begun), ours(begun)]
    rates: list[list[float]] = [[] for _ in loops]
    try:
        for _, which in in_turn(len(loops), repeats):
            rates[which].append(loops[which].rate(seconds))
    finally:
        for loop in loops:
            loop.close()
        torch.set_num_threads(default)
    values = [tuple(rate) for rate in rates]
    slow = Row(f"{case}: plain loop", values[0], "images/s", note=f"fp32, {default} threads")
    alone = Row(f"{case}: computing alone", values[1], "images/s", slow, format)
    yield slow
    yield alone
    yield Row(f"{case}: our loop", values[2], "images/s", slow, format)
    yield Row(f"{case}: our loop", values[2], "images/s", alone, format)


def ours(begun: Sitting) -> Loop:
    """`train.fit` as a run has it, without validation."""

    def images() -> Generator[int, None, None]:
        batch, n = begun.state.settings.batch_size, len(begun.train)
        a_epoch, before = train.steps_per_epoch(n, batch), 0
        for _event in train.fit(begun.state, begun.train, None):
            epochs, steps = divmod(begun.state.step, a_epoch)
            now = epochs * min(n, a_epoch * batch) + steps * batch
            yield now - before
            before = now

    return Loop(images(), torch.get_num_threads())


def bound(begun: Sitting) -> Loop:
    """The steps of `ours` on one batch that lies ready; at rate 0 the weights stay as they are."""
    state, settings = begun.state, begun.state.settings
    model = copy.deepcopy(state.model)
    optimizer = optim.build(model, settings, state.precision)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    inputs = tensors.normalize(
        begun.train.images(slice(settings.batch_size)), state.mean, state.std
    )
    labels = begun.train.labels[: settings.batch_size]
    count = -(-len(labels) // settings.micro_batch) if settings.micro_batch else 1
    parts = list(zip(inputs.tensor_split(count), labels.tensor_split(count), strict=True))

    def images() -> Generator[int, None, None]:
        model.train()
        while True:
            optimizer.zero_grad()
            for part, wanted in parts:
                with state.autocast():
                    loss = F.cross_entropy(
                        model(part),
                        wanted,
                        label_smoothing=settings.label_smoothing,
                        reduction="sum",
                    )
                (loss / len(labels)).backward()
            optimizer.step()
            yield len(labels)

    return Loop(images(), torch.get_num_threads())


def plain_loop(settings: TrainConfig, threads: int) -> Loop:
    """The tutorials' loop over the same images, in fp32 and torch's own memory format."""
    dataset = catalog.load(settings.dataset)
    every, labels, kept = catalog.select(
        settings.dataset, "train", settings.validation_share, settings.split_seed
    )
    torch.manual_seed(settings.seed)
    model = quicker.undo(models.build(settings, len(dataset.classes), dataset.size))
    mean, std = tensors.statistics(settings)
    look = torch.from_numpy(every[kept[:: max(1, len(kept) // sitting.LOOK_IMAGES)]])
    models.look(model, tensors.normalize(look, mean, std))
    model.to(machine.device(settings.device))
    data = plain.Pictures(
        plain.pictures(every[kept]), labels[kept].tolist(), plain.transform(settings, dataset.size)
    )
    steps = plain.train(model, plain.loader(data, settings.batch_size, settings.seed), settings)

    def images() -> Generator[int, None, None]:
        for taken, _ in steps:
            yield taken

    before = set(psutil.Process().children())
    loop = Loop(images(), threads)
    next(loop.images)  # starts the workers
    loop.workers = [child for child in psutil.Process().children() if child not in before]
    plain.signal(loop.workers, "suspend")
    return loop
