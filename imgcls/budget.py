"""How many steps fit into a time, from a short measurement of real steps on this machine."""

import bisect
import contextlib
import itertools
import json
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from imgcls import recipes, sitting, train
from imgcls.config import TrainConfig
from imgcls.data import augment, catalog
from imgcls.data.tensors import Split
from imgcls.errors import ConfigError, ImgclsError

MEASURE_SECONDS = 6.0  # of steps, after as many at each size that warm up as TRIAL_STEPS
TRIAL_STEPS = 3
ROUNDS = 3  # in which each size is timed once, since a machine's speed drifts
MOST_SIDES = 5  # sizes that are measured of growing images; others lie between two of these
MARGIN = 0.97  # of the time asked for, since events and checkpoints take some
MOST_EPOCHS = 500  # as the setting's limit has it


def within(settings: TrainConfig, minutes: float) -> dict[str, Any]:
    """The settings that make a run train and validate for about so long; `told` says them in words.

    Returns steps, epochs that hold them, phases stretched or cut to these, and the precision and
    threads that were measured, to be saved with the run: its schedule is then fixed, and a resume
    stays exact. Nothing of the measurement goes into the run. Raises ConfigError where not even one
    step fits, and for several processes, which are not measured.
    """
    if settings.processes > 1:
        raise ConfigError(
            f"A time budget is measured with one process, got processes {settings.processes}: set "
            "it to 1, or give epochs instead of minutes."
        )
    begun = sitting.begin(settings)
    state, split = begun.state, begun.train
    a_epoch = train.steps_per_epoch(len(split), settings.batch_size)
    # Before trial steps, which may diverge: the measurement does not mind, validation would.
    a_validation = 0.0 if begun.validation is None else _validation_seconds(state, begun.validation)
    a_step = _seconds_a_step(state, split)
    steps = steps_within(60 * MARGIN * minutes, a_step, a_validation, a_epoch, settings.eval_every)
    if steps < 1:
        raise ConfigError(
            f"One step and a validation take about {(a_step + a_validation) / 60:.2g} minutes "
            f"here: ask for more than {minutes:g} minutes, or choose a smaller model."
        )
    epochs = math.ceil(steps / a_epoch)
    fixed = {
        "steps": steps,
        "epochs": epochs,
        "precision": state.precision,
        "threads": torch.get_num_threads(),
    }
    if settings.schedule == "phases":
        phases = recipes.rescaled(settings, epochs)
        fixed |= {"phases": phases, "peak_lr": max(rate for _, rate in phases)}
    return fixed


def told(settings: TrainConfig) -> str:
    """How long a run of fixed steps is, as `1,234 steps, 3.4 epochs`."""
    rows = catalog.select(
        settings.dataset, settings.train_on, settings.validation_share, settings.split_seed
    )[2]
    epochs = settings.steps / train.steps_per_epoch(len(rows), settings.batch_size)
    return f"{settings.steps:,} steps, {epochs:,.{1 if epochs >= 1 else 2}f} epochs"


def steps_within(
    seconds: float, a_step: float, a_validation: float, a_epoch: int, eval_every: int
) -> int:
    """The most steps that take at most so long with their validations; 0 where none does.

    Validation comes after each `eval_every` epochs of `a_epoch` steps, and at the end.
    """

    def cost(steps: int) -> float:
        return steps * a_step + math.ceil(steps / (a_epoch * eval_every)) * a_validation

    return bisect.bisect_right(range(MOST_EPOCHS * a_epoch + 1), seconds, key=cost) - 1


def trial_steps(state: train.State, split: Split) -> Iterator[Tensor]:
    """Steps as a run takes them, without end: each `next` takes one and gives what it gave.

    Batches are whole, so that each step counts as much as any other: what is left of a pass over
    the images is dropped, but where they are fewer than a batch they are the batch. What was
    prepared for other settings than the state has now is dropped, too.
    """
    generator, size = torch.Generator(state.device), state.settings.batch_size
    a_epoch, a_pass = train.steps_per_epoch(len(split), size), max(1, len(split) // size)
    order, settings = torch.empty(0), state.settings
    ready: deque[train.Batch] = deque()
    train.training_mode(state.model)
    for step in itertools.count():
        if step % a_pass == 0:
            generator.manual_seed(train.mix("trial", settings.seed, state.step))
            order = torch.randperm(len(split), generator=generator, device=state.device)
            ready.clear()
        if not ready or state.settings is not settings:
            settings = state.settings
            ready = deque(train.next_batches(state, split, order, None, a_pass, generator))
        yield train.learn(state, ready.popleft(), a_epoch)


def shares_of_sides(settings: TrainConfig, full: int) -> dict[int, float]:
    """Pixels a side of the images in training, smallest first, and the share of the steps."""
    parts = 1000
    sides = (augment.side_at(settings, (i + 0.5) / parts, full) for i in range(parts))
    return {side: count / parts for side, count in sorted(Counter(sides).items())}


def _seconds_a_step(state: train.State, split: Split) -> float:
    """The mean over all steps of a run, in which images may grow."""
    settings = state.settings
    shares = shares_of_sides(settings, split.side)
    sides = list(shares)
    few = min(MOST_SIDES, len(sides))
    chosen = [sides[i * (len(sides) - 1) // max(1, few - 1)] for i in range(few)]
    # What is made to stay at one side: it begins there and never comes to the next.
    fixed = {
        side: settings.replace(
            start_size=0 if side >= split.side else side, full_size_from=1.0, steps=10**8
        )
        for side in chosen
    }
    steps, seconds, counts = trial_steps(state, split), dict.fromkeys(chosen, 0.0), Counter[int]()
    for side in chosen:
        state.settings = fixed[side]
        for _ in range(TRIAL_STEPS):
            next(steps)
    for _, side in itertools.product(range(ROUNDS), chosen):
        state.settings = fixed[side]
        elapsed, count = _timed(steps, MEASURE_SECONDS / ROUNDS / len(chosen))
        seconds[side] += elapsed
        counts[side] += count
    means = {side: seconds[side] / counts[side] for side in chosen}
    return sum(share * _between(means, side) for side, share in shares.items())


def _timed(steps: Iterator[Tensor], seconds: float) -> tuple[float, int]:
    """Take steps for about so long: how long it was, and how many they were."""
    start = time.perf_counter()
    for count, sums in enumerate(steps, start=1):
        if time.perf_counter() - start >= seconds:
            sums.tolist()  # the device catches up
            return time.perf_counter() - start, count
    raise AssertionError("trial steps do not end")


def _between(means: dict[int, float], side: int) -> float:
    """The seconds at a side, on a straight line over pixels between the two measured around it."""
    below = max(s for s in means if s <= side)
    above = min(s for s in means if s >= side)
    if below == above:
        return means[side]
    weight = (side**2 - below**2) / (above**2 - below**2)
    return means[below] + weight * (means[above] - means[below])


def _validation_seconds(state: train.State, validation: Split) -> float:
    def once() -> float:
        start = time.perf_counter()
        for _ in train.validate(state, validation):
            pass
        return time.perf_counter() - start

    seconds = once()
    # The first also warms up; where it is short, that is much of it.
    return seconds if seconds > 2 else min(seconds, once())


def answer(asked: str) -> str:
    """What `within` finds for settings and minutes in JSON: fixed and told, or refused."""
    question = json.loads(asked)
    settings = TrainConfig.from_dict(question["settings"])
    try:
        fixed = within(settings, question["minutes"])
        return json.dumps({"fixed": fixed, "told": told(settings.replace(**fixed))})
    except ImgclsError as error:
        return json.dumps({"refused": str(error)})


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(answer(sys.stdin.read()))
