"""What learning rate and what batch size suit a network here, tried on the real training step.

Only training images are looked at, and nothing of a trial is kept.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from imgcls import sitting, train
from imgcls.budget import trial_steps
from imgcls.config import SETTINGS, TrainConfig
from imgcls.data.tensors import Split
from imgcls.errors import ConfigError

LOWEST, HIGHEST = 1e-6, 10.0  # learning rates that are tried
STEPS, MOST_STEPS = 100, 1000  # of a trial; more where batches are small, whose losses are noisy
STEADY_IMAGES = 128  # a batch from which STEPS are enough
FEWEST_STEPS = 40
SECONDS = 60.0  # that a trial should take; where a step is slow, they are fewer
WARM_STEPS = 3  # at the lowest rate, the first of which is not timed
DECADES = 0.2  # standard deviation of the smoothing, in powers of ten of the rate
CLIPPED = 1.5  # times the first losses; what is higher counts as this much in the smoothing
TOO_HIGH = 4.0  # times its minimum, at which the loss ends the trial
BELOW_LOWEST = 3.0  # times below the rate of the lowest loss lies the suggestion
SMALL = (16, 32)  # images of two steps, between and beyond which memory goes along a line
EPOCH_STEPS = 20  # an epoch of fewer makes too little of its images
CPU_SHARE = 0.5  # of the free memory: the rest is for what is not counted, and for other programs
ONCE = 200 << 20  # bytes that first steps bring: kernels, libraries, pages of the images' file
CUDA_SHARE = 0.9  # the rest is for what the allocator cannot put together

Report = Callable[[float, float, str], None]  # done, total, what


@dataclass(frozen=True)
class Found:
    """What a learning-rate trial showed."""

    rates: list[float]  # rising
    losses: list[float]  # nats, of the batch at each rate
    smoothed: list[float]  # the same, over neighbouring rates
    suggestion: float  # for peak_lr, two digits
    ended: str  # why there are no higher rates, one sentence
    seconds: float


def learning_rate(settings: TrainConfig, report: Report | None = None) -> Found:
    """Raise the rate from step to step, and suggest one from how the training loss answers.

    settings: their peak_lr and schedule do not matter. Raises ConfigError where the loss falls at
    no rate, and what `sitting.begin` raises. Source: Smith 2015, arXiv:1506.01186, section 3.3, in
    one geometric sweep.
    """
    start = time.perf_counter()
    trial = settings.replace(
        # With so many epochs, images keep the size with which a run begins.
        schedule="constant", phases=(), epochs=int(SETTINGS["epochs"].high or 1), steps=0,
        ema=0.0, compile="none", processes=1, hard_share=1.0,
    )  # fmt: skip
    with _threads_kept():
        rates, losses, ended = _sweep(trial, report)
    # What explodes would pull up the losses beside it.
    smoothed = smooth(
        rates, np.minimum(losses, CLIPPED * np.median(losses[: 1 + len(losses) // 10]))
    )
    return Found(
        rates=rates.tolist(),
        losses=losses.tolist(),
        smoothed=smoothed.tolist(),
        suggestion=suggest(rates, smoothed),
        ended=ended,
        seconds=time.perf_counter() - start,
    )


def _sweep(
    trial: TrainConfig, report: Report | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Rates, the loss at each, and why there are no more."""
    begun = sitting.begin(trial)
    state, steps = begun.state, trial_steps(begun.state, begun.train)
    images = min(trial.batch_size, len(begun.train))

    def loss_at(rate: float) -> float:
        state.settings = trial.replace(peak_lr=rate)
        return float(next(steps)[0]) / images  # waits for the device

    loss_at(LOWEST)
    timed = time.perf_counter()
    for _ in range(1, WARM_STEPS):
        loss_at(LOWEST)
    each = (time.perf_counter() - timed) / (WARM_STEPS - 1)
    wanted = min(max(STEPS, STEPS * STEADY_IMAGES // images), MOST_STEPS)
    rates = np.geomspace(LOWEST, HIGHEST, max(FEWEST_STEPS, min(wanted, int(SECONDS / each))))
    losses: list[float] = []
    lowest = math.inf
    for i, rate in enumerate(rates):
        loss = loss_at(float(rate))
        if not math.isfinite(loss):
            if not losses:
                raise ConfigError(
                    f"The training loss is {loss} at the lowest rate that is tried, {LOWEST:g}: no "
                    "rate mends that. Choose another optimizer, precision fp32 or other weights."
                )
            return rates[:i], np.array(losses), f"The loss was no number at {rate:.2g}."
        losses.append(loss)
        recent = float(np.mean(losses[-max(1, len(rates) // 30) :]))  # a quarter of a decade
        lowest = min(lowest, recent)
        if recent > TOO_HIGH * lowest:
            why = f"The loss was {TOO_HIGH:g} times its lowest at {rate:.2g}."
            return rates[: i + 1], np.array(losses), why
        if report:
            report(i + 1, len(rates), f"rate {rate:.1e}, loss {loss:.3f}")
    return rates, np.array(losses), f"No higher rate than {HIGHEST:g} is tried."


def smooth(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each loss averaged with those at neighbouring rates, weighted normally over log10.

    (n,) and (n,) to (n,). Centred: a running average would tell of each rate too late.
    """
    place = np.log10(rates)
    weights = np.exp(-0.5 * ((place[:, None] - place[None, :]) / DECADES) ** 2)
    averaged: NDArray[np.float64] = weights @ losses / weights.sum(1)
    return averaged


def suggest(rates: NDArray[np.float64], smoothed: NDArray[np.float64]) -> float:
    """A BELOW_LOWEST-th of the rate at which the loss is lowest, to two digits. (n,) and (n,).

    Where the loss turns, one step undoes what another gains; a run of many steps needs some
    distance from there. The steepest point, the other rule in use, is where noise decides:
    docs/decisions/08-finder.md compares them. Raises ConfigError where the loss did not fall.
    """
    lowest = float(rates[smoothed.argmin()])
    if lowest < 10 * rates[0]:
        raise ConfigError(
            "The training loss fell at no learning rate in this short trial: try a larger batch "
            "size, or choose the rate that the recipe has."
        )
    return float(f"{lowest / BELOW_LOWEST:.2g}")


@dataclass(frozen=True)
class Fit:
    """The largest batch that the memory holds, and what that rests on."""

    batch_size: int
    needed: int  # bytes of a step with it
    allowed: int  # bytes, the stated share of those that were free
    limit: str  # why it is no larger, one sentence


def batch_size(settings: TrainConfig, report: Report | None = None) -> Fit:
    """The largest power of two whose step fits into what may be used of the free memory.

    No larger than leaves EPOCH_STEPS steps an epoch, or 32 images.

    On CUDA by taking steps of rising size; elsewhere by what steps of two small sizes keep for
    their backward pass, which grows along a line. Images have their full size, and one process
    trains. Raises ConfigError where two images are too many, and what `sitting.begin` raises.
    """
    trial = settings.replace(
        batch_size=SMALL[1], micro_batch=0, start_size=0, schedule="constant", phases=(), steps=0,
        processes=1, hard_share=1.0, compile="none",
    )  # fmt: skip
    with _threads_kept():
        begun = sitting.begin(trial)
        images, most = len(begun.train), int(SETTINGS["batch_size"].high or 1)
        useful = max(SMALL[1], images // EPOCH_STEPS)
        sizes = [2**n for n in range(1, min(images, most).bit_length()) if 2**n <= useful]
        measure = _measured if begun.state.device.type == "cuda" else _estimated
        needs, allowed = measure(begun, settings.micro_batch, sizes, report)
    fitting = [size for size in sizes if needs.get(size, math.inf) <= allowed]
    if not fitting:
        raise ConfigError(
            f"A step of {sizes[0]} images needs more than the {allowed / 2**30:.1f} GB that may be "
            "used: choose a smaller model or smaller images, or end other programs."
        )
    size = fitting[-1]
    if size < sizes[-1]:
        limit = f"{2 * size:,} images would need more than {allowed / 2**30:.1f} GB."
    elif 2 * size > most:
        limit = f"More than {most:,} is not to be set."
    elif 2 * size > images:
        limit = f"There are {images:,} images to train on."
    else:
        limit = (
            f"{2 * size:,} would leave fewer than {EPOCH_STEPS} steps an epoch of {images:,} "
            "images, too few to learn well."
        )
    return Fit(size, needs[size], allowed, limit)


def scaled_rate(settings: TrainConfig, size: int) -> str:
    """What another batch size means for the learning rate, one sentence.

    Source: the linear scaling rule of Goyal et al. 2017, arXiv:1706.02677, section 2.1, for SGD.
    """
    rate = min(settings.peak_lr * size / settings.batch_size, SETTINGS["peak_lr"].high or 1.0)
    if settings.optimizer != "sgd" or settings.schedule == "phases":
        return "The learning rate should change with the batch size: look for it anew."
    return (
        f"With SGD the learning rate goes in proportion: {settings.peak_lr:g} at "
        f"{settings.batch_size:,} images is {rate:.2g} at {size:,} (Goyal et al. 2017); it helps "
        "up to some thousand images, with a warm-up."
    )


def _measured(
    begun: sitting.Sitting, micro_batch: int, sizes: list[int], report: Report | None
) -> tuple[dict[int, int], int]:
    """Bytes of a step by batch size, until one is too large, and how many may be used: on CUDA."""
    state, where = begun.state, begun.state.device
    free, _ = torch.cuda.mem_get_info(where)
    allowed = int(CUDA_SHARE * (free + torch.cuda.memory_reserved(where)))
    needs: dict[int, int] = {}
    for i, size in enumerate(sizes):
        parts = min(micro_batch, size)
        state.settings = state.settings.replace(batch_size=size, micro_batch=parts)
        steps = trial_steps(state, begun.train)
        torch.cuda.reset_peak_memory_stats(where)
        try:
            for _ in range(2):  # the second has the optimizer's state beside it
                next(steps).tolist()
        except torch.cuda.OutOfMemoryError:
            break
        needs[size] = torch.cuda.max_memory_allocated(where)
        if report:
            report(i + 1, len(sizes), f"{size:,} images, {needs[size] / 2**30:.1f} GB")
        if needs[size] > allowed:
            break
    return needs, allowed


def _estimated(
    begun: sitting.Sitting, micro_batch: int, sizes: list[int], report: Report | None
) -> tuple[dict[int, int], int]:
    """Bytes of a step by batch size, and how many may be used: where no count is kept of them."""
    state, split = begun.state, begun.train
    small = sorted({min(size, len(split)) for size in SMALL})
    if report:
        report(0, 1, f"steps of {small[0]} and {small[-1]} images")
    kept = [_kept_for_backward(state, split, size) for size in small]
    an_image = (kept[-1] - kept[0]) / max(1, small[-1] - small[0])
    once = ONCE + kept[0] - an_image * small[0] + _resident(state)
    inputs = 4 * 3 * split.side**2  # float32, of the whole batch, also where it is parted
    needs = {
        size: int(once + an_image * min(size, micro_batch or size) + inputs * size)
        for size in sizes
    }
    return needs, int(CPU_SHARE * psutil.virtual_memory().available)


def _kept_for_backward(state: train.State, split: Split, size: int) -> int:
    """Bytes of a step of so many images: what it keeps for its backward pass, weights apart, and
    there the gradients before and after the largest layer.
    """
    own = {p.untyped_storage().data_ptr() for p in state.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()  # alive until backward: none has its address
        return tensor

    state.settings = state.settings.replace(batch_size=size)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        next(trial_steps(state, split))
    sizes = [size for pointer, size in kept.items() if pointer not in own]
    return sum(sizes) + 2 * max(sizes, default=0)


def _resident(state: train.State) -> int:
    """Bytes of weights, gradients, buffers, average and optimizer after a step."""
    tensors: list[Tensor] = [*state.model.parameters(), *state.model.buffers()]
    tensors += [p.grad for p in state.model.parameters() if p.grad is not None]
    tensors += state.average.state_dict().values() if state.average else ()
    for held in state.optimizer.state.values():
        tensors += [value for value in held.values() if isinstance(value, Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """A trial sets this process's threads; whoever asked for it goes on with theirs."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
