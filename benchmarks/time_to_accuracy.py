"""Seconds of training until 70, 81, 85 and 90 % of the test images are classified right.

The contestants of a race take turns of a few seconds. Whoever has the smallest share of its steps
behind it goes next, so all meet the same hours of the machine from their first step to their last.
Each is a process of its own: ours begins as the app would begin it, the others as a script does.
Each sees all 50,000 training images, and is judged on the 10,000 test images at the end of each of
its epochs while its clock stands. What lies before its first step (weights, whitening, choice of
number format) is told as set-up and not counted.

A race takes 15 to 70 minutes on two cores: `python -m benchmarks time_to_accuracy --race anchor
--seed 0 --json FILE` runs one, and `--show FILE` puts those together that a file holds.

    python -m benchmarks.time_to_accuracy NAME DATASET SEED     one contestant; seconds on stdin
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from benchmarks import Row, anchor, plain
from imgcls import jobs, machine, models, recipes, sitting, train
from imgcls.data import catalog, tensors
from imgcls.errors import ConfigError, RunError
from imgcls.events import Epoch
from imgcls.models import quicker

KIND = "race"  # of a record in the file
SLICES = {"cpu": 5.0, "cuda": 1.0}  # seconds that one trains before the other may
GOALS = (0.70, 0.81, 0.85, 0.90)
BATCH = 500  # images judged at once
# by the name of the last, whom all others are held against
RACES = {
    "anchor": ("speed-fast", "speed", "anchor"),
    "plain": ("speed-fast", "speed", "plain"),
}
TITLES = {
    "anchor": "port of the anchor",
    "plain": "plain tutorial-resnet18 from scratch",
}


@dataclass
class Contestant:
    """One that trains, and its clock."""

    name: str
    steps: Iterator[tuple[int, bool]]  # images, and whether an epoch ended; the device is done
    accuracies: Callable[[], dict[str, float]]  # on the test images, 0..1, by view
    images: int  # in all its steps
    threads: int
    format: str
    set_up: float  # seconds before the first step
    workers: list[psutil.Process] = field(default_factory=list)  # stopped while it waits
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # never changes
    seen: int = 0  # images
    seconds: float = 0.0  # trained
    epochs: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def train(self, seconds: float) -> None:
        """Go on for so many seconds, a step at least, or to an epoch's end; there be judged."""
        torch.set_num_threads(self.threads)
        plain.signal(self.workers, "resume")
        start, ended = time.perf_counter(), False
        while True:
            step = next(self.steps, None)
            self.done = step is None
            taken, ended = step or (0, False)
            self.seen += taken
            if ended or self.done or time.perf_counter() - start >= seconds:
                break
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        plain.signal(self.workers, "suspend")
        if ended:
            told = {"seconds": self.seconds, "images": self.seen, "accuracy": self.accuracies()}
            self.epochs.append(told)

    def close(self) -> None:
        """End its worker processes."""
        plain.signal(self.workers, "resume")
        self.steps = iter(())


def rows(
    dataset: str = "cifar10",
    repeats: int = 3,
    seconds: float | None = None,
    race: str | None = None,
    seed: int | None = None,
) -> Iterator[Row | dict[str, Any]]:
    """Run every race with seeds 0, 1, …, or one of them alone; a record as each one ends."""
    if race is not None and race not in RACES:
        raise ConfigError(f"No race named {race!r}. Choose one of: {', '.join(RACES)}.")
    catalog.load(dataset)
    if seconds is None:
        seconds = SLICES["cuda" if torch.cuda.is_available() else "cpu"]
    seeds = range(repeats) if seed is None else [seed]
    records = []
    for number in seeds:
        for name in RACES if race is None else [race]:
            for record in run(name, dataset, number, seconds):
                records.append(record)
                yield record
    yield from summary(records)


class Apart:
    """A contestant in a process of its own, which trains when asked and sleeps otherwise."""

    done, seen, images = False, 0, 1

    def __init__(self, name: str, dataset: str, seed: int) -> None:
        self.name = name
        ours = jobs.ENVIRONMENT if name in recipes.RECIPES else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.time_to_accuracy", name, dataset, str(seed)],
            env={**ours, **os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._hear()

    def train(self, seconds: float) -> None:
        """As `Contestant.train`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        self._hear()

    def _hear(self) -> None:
        assert self.process.stdout is not None
        told = self.process.stdout.readline()
        if not told:
            self.close()
            raise RunError(f"Contestant {self.name} ended with status {self.process.returncode}.")
        vars(self).update(json.loads(told))

    def close(self) -> None:
        """End the process, and with it its own."""
        with self.process:
            pass  # closes its pipes, upon which it ends, and waits


def answer(name: str, dataset: str, seed: int) -> None:
    """Train for as many seconds as each line of stdin says, and tell how far that led."""
    machine.prepare(machine.device("auto"))  # for all alike
    one = START[name](name, dataset, seed)
    told = {"images": one.images, "format": one.format, "set_up": one.set_up}
    print(json.dumps(told), flush=True)
    try:
        for line in sys.stdin:
            one.train(float(line))
            told = {name: getattr(one, name) for name in ("seen", "seconds", "done", "epochs")}
            print(json.dumps(told), flush=True)
    finally:
        one.close()


def run(
    race: str,
    dataset: str,
    seed: int,
    seconds: float,
    start: Callable[[str, str, int], Any] = Apart,
) -> Iterator[dict[str, Any]]:
    """Train all of a race to their ends in turns; a record when one of them gets there."""
    racing: list[Any] = []
    try:
        for name in RACES[race]:
            racing.append(start(name, dataset, seed))
        while left := [one for one in racing if not one.done]:
            one = min(left, key=lambda c: c.seen / c.images)
            one.train(seconds)
            if one.done:
                yield {
                    "kind": KIND,
                    "race": race,
                    "seed": seed,
                    "name": one.name,
                    "dataset": dataset,
                    "set_up_seconds": one.set_up,
                    "seconds": one.seconds,
                    "format": one.format,
                    "epochs": one.epochs,
                }
    finally:
        for one in racing:
            one.close()


def summary(records: list[dict[str, Any]]) -> Iterator[Row]:
    """Seconds to each goal by race and view, each of ours over the other, seeds in order.

    Only seeds that both finished count, each once: the last of its kind. Views are compared with
    the same; where the other has but one, ours is judged by that.
    """
    last = {(r["race"], r["seed"], r["name"]): r for r in records}
    for race, ours in ((race, name) for race, names in RACES.items() for name in names[:-1]):
        theirs = RACES[race][-1]
        seeds = sorted(s for r, s, name in last if (r, name) == (race, ours))
        seeds = [seed for seed in seeds if (race, seed, theirs) in last]
        if not seeds:
            continue
        mine = [last[race, seed, ours] for seed in seeds]
        others = [last[race, seed, theirs] for seed in seeds]
        for view in others[0]["epochs"][-1]["accuracy"]:
            label = f"{ours} against {TITLES[theirs]}"
            for goal in GOALS:
                other = _to(goal, f"{TITLES[theirs]} (with {ours})", others, view)
                yield other
                yield dataclasses.replace(_to(goal, label, mine, view), baseline=other)
            took: Row | None = None
            for name, results in ((f"{TITLES[theirs]} (with {ours})", others), (label, mine)):
                final = tuple(100 * r["epochs"][-1]["accuracy"][view] for r in results)
                yield Row(f"{name}: at the end, {view}", final, "%")
                seconds = tuple(r["seconds"] for r in results)
                took = Row(f"{name}: all its training", seconds, "s", took)
                yield took


def _to(goal: float, name: str, results: list[dict[str, Any]], view: str) -> Row:
    reached = tuple(seconds_to(goal, result, view) for result in results)
    short = [r for r, s in zip(results, reached, strict=True) if s == float("inf")]
    notes = [
        f"seed {r['seed']} not reached; best {best(r, view):.1%} after {r['seconds']:.0f} s"
        for r in short
    ]
    return Row(f"{name}: to {goal:.0%}, {view}", reached, "s", note="; ".join(notes))


def seconds_to(goal: float, result: dict[str, Any], view: str) -> float:
    """Seconds trained at the end of the first epoch that reached the goal; infinite if none did."""
    reached = (e["seconds"] for e in result["epochs"] if e["accuracy"][view] >= goal)
    first: float = next(reached, float("inf"))
    return first


def best(result: dict[str, Any], view: str) -> float:
    """The highest accuracy of an epoch's end, 0..1."""
    return max(float(e["accuracy"][view]) for e in result["epochs"])


def start_ours(recipe: str, dataset: str, seed: int) -> Contestant:
    """A recipe of ours, on all images but test; raises ConfigError where there is none so named."""
    begin = time.perf_counter()
    settings = recipes.config_for(recipe, dataset, seed=seed, train_on="train+validation")
    begun = sitting.begin(settings)
    state, threads = begun.state, torch.get_num_threads()
    a_epoch = train.steps_per_epoch(len(begun.train), settings.batch_size)
    set_up = time.perf_counter() - begin
    test = tensors.load(settings, "test", state.device)
    images = tensors.normalize(test.images(slice(None)), state.mean, state.std)

    def steps() -> Iterator[tuple[int, bool]]:
        before = 0
        for event in train.fit(state, begun.train, None):
            steps, before = state.step - before, state.step
            ended = isinstance(event, Epoch)
            if steps or ended:
                yield steps * settings.batch_size, ended

    def accuracies() -> dict[str, float]:
        model = state.judged.eval()

        def forward(images: torch.Tensor) -> torch.Tensor:
            with state.autocast():
                logits: torch.Tensor = model(images)
            return logits.float()

        return anchor.accuracies(forward, images, test.labels, BATCH)

    return Contestant(
        recipe,
        steps(),
        accuracies,
        images=settings.total_steps(a_epoch) * settings.batch_size,
        threads=threads,
        format=f"{state.precision}, {threads} threads",
        set_up=set_up,
        device=state.device,
    )


def start_anchor(name: str, dataset: str, seed: int) -> Contestant:
    """The port of the anchor, in what is quicker here, with torch's default number of threads."""
    threads, device = torch.get_num_threads(), machine.device("auto")
    train_images, train_labels = whole(dataset, "train+validation", device)
    test_images, test_labels = whole(dataset, "test", device)
    begin = time.perf_counter()
    classes = len(catalog.load(dataset).classes)
    model = anchor.build(train_images, seed, classes)
    dtype = anchor.quickest(model, train_images[:100])
    set_up = time.perf_counter() - begin

    def forward(images: torch.Tensor) -> torch.Tensor:
        with anchor.autocast(device, dtype):
            logits: torch.Tensor = model(images)
        return logits.float()

    def accuracies() -> dict[str, float]:
        model.eval()
        return anchor.accuracies(forward, test_images, test_labels, BATCH)

    return Contestant(
        name,
        anchor.train(model, train_images, train_labels, seed, dtype=dtype),
        accuracies,
        images=anchor.EPOCHS * (len(train_images) // anchor.BATCH) * anchor.BATCH,
        threads=threads,
        format=f"{'bf16' if dtype == torch.bfloat16 else 'fp32'}, {threads} threads",
        set_up=set_up,
        device=device,
    )


def start_plain(name: str, dataset: str, seed: int) -> Contestant:
    """The tutorials' loop with their ResNet-18 from scratch, fp32, judged by one view."""
    threads, device = torch.get_num_threads(), machine.device("auto")
    begin = time.perf_counter()
    settings = recipes.config_for("tutorial-resnet18", dataset, pretrained=False, seed=seed)
    facts = catalog.load(dataset)
    torch.manual_seed(seed)
    model = quicker.undo(models.build(settings, len(facts.classes), facts.size)).to(device)
    images, labels, rows = catalog.select(dataset, "train+validation", 0.1, 0)
    data = plain.Pictures(
        plain.pictures(images[rows]), labels[rows].tolist(), plain.transform(settings, facts.size)
    )
    batches = plain.loader(data, settings.batch_size, seed)
    before = set(psutil.Process().children())
    iter(batches)  # persistent workers: the same ones from here to the end
    workers = [child for child in psutil.Process().children() if child not in before]
    plain.signal(workers, "suspend")
    test = tensors.load(settings, "test", device)
    views = tensors.normalize(test.images(slice(None)), *tensors.statistics(settings))

    @torch.inference_mode()
    def accuracies() -> dict[str, float]:
        model.eval()
        right = sum(
            int((model(views[rows]).argmax(1) == test.labels[rows]).sum())
            for rows in torch.arange(len(views)).split(BATCH)
        )
        return {anchor.VIEWS[0]: right / len(views)}

    return Contestant(
        name,
        plain.train(model, batches, settings),
        accuracies,
        images=settings.epochs * len(batches) * settings.batch_size,
        threads=threads,
        format=f"fp32, {threads} threads",
        set_up=time.perf_counter() - begin,
        workers=workers,
        device=device,
    )


def whole(dataset: str, split: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a split as normalised (N, 3, H, W) floats, and their labels."""
    facts = catalog.load(dataset)
    images, labels, rows = catalog.select(dataset, split, 0.1, 0)
    pixels = torch.from_numpy(images[rows]).to(device)
    return (
        tensors.normalize(pixels, facts.mean, facts.std),
        torch.from_numpy(labels[rows]).to(device),
    )


START: dict[str, Callable[[str, str, int], Contestant]] = {
    "speed-fast": start_ours,
    "speed": start_ours,
    "anchor": start_anchor,
    "plain": start_plain,
}


if __name__ == "__main__":
    answer(sys.argv[1], sys.argv[2], int(sys.argv[3]))
