"""How many epochs fit into a time, from a short measurement of real steps on this machine."""

import itertools
import time
from typing import Any

import torch

from imgcls import machine, models, train
from imgcls.config import TrainConfig
from imgcls.data import catalog, tensors
from imgcls.errors import ConfigError

MEASURE_SECONDS = 5.0  # of steps, after as many that warm up as TRIAL_STEPS
TRIAL_STEPS = 3
MARGIN = 0.95  # of the time asked for, since the measurement is short


def within(settings: TrainConfig, minutes: float) -> dict[str, Any]:
    """The settings that make a run last about so long: `epochs`, and what they were measured with.

    Returns epochs, precision and threads, to be saved with the run: its schedule is then fixed, and
    a resume stays exact. Nothing of the measurement goes into the run. Raises ConfigError where not
    even one epoch fits.
    """
    dataset = catalog.load(settings.dataset)
    device = machine.device(settings.device)
    machine.prepare(device)
    model = models.build(settings, len(dataset.classes), dataset.size)
    model.to(device=device).to(memory_format=torch.channels_last)
    precision, threads = machine.choose(settings, device, model, dataset.size)
    torch.set_num_threads(threads)
    state = train.State(model, settings, precision, *tensors.statistics(settings))
    split = tensors.load(settings, settings.train_on, device)
    steps = train.steps_per_epoch(len(split), settings.batch_size)
    seconds = 0.0
    if settings.train_on == "train":
        validation = tensors.load(settings, "validation", device)
        start = time.perf_counter()
        for _ in train.validate(state, validation):
            pass
        seconds = (time.perf_counter() - start) / settings.eval_every
    # After validation: trial steps may diverge, which the measurement does not mind.
    seconds += steps * _seconds_a_step(state, split, steps)
    epochs = int(MARGIN * 60 * minutes / seconds)
    if epochs < 1:
        raise ConfigError(
            f"One epoch takes about {seconds / 60:.1f} minutes here: "
            f"ask for more than {minutes:g} minutes, or choose a smaller model."
        )
    return {"epochs": min(epochs, 500), "precision": precision, "threads": threads}


def _seconds_a_step(state: train.State, split: tensors.Split, steps: int) -> float:
    generator, size = torch.Generator(state.device), state.settings.batch_size
    state.model.train()
    start = time.perf_counter()
    for count in itertools.count(1):
        rows = slice((count - 1) % steps * size, ((count - 1) % steps + 1) * size)
        sums = train.take_step(state, split.images[rows], split.labels[rows], steps, generator)
        if count == TRIAL_STEPS:
            sums.tolist()  # the device catches up
            start = time.perf_counter()
        if count > TRIAL_STEPS and time.perf_counter() - start > MEASURE_SECONDS:
            sums.tolist()
            return (time.perf_counter() - start) / (count - TRIAL_STEPS)
    raise AssertionError("count() does not end")
