"""Where a run's time goes, and what to do about it. Imports torch only where it computes."""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imgcls.config import SETTINGS, TrainConfig
from imgcls.events import Profile, Started

if TYPE_CHECKING:
    import torch
    from torch import nn

PARTS = ("data", "forward", "backward", "optimizer", "evaluation", "idle")
COSTLY = ("rotation", "color_jitter", "noise", "crop_pad", "cutout")  # dearest first
LOW_RATE = 0.05  # of the matrix product: below it, a step is overhead rather than arithmetic
TINY_BATCH, TINY_RATE = 32, 0.2  # below so many images a step, and so much of the product, too
HIGH_RATE = 0.5
SMALL_BATCH = {"cpu": 128, "gpu": 512}  # images below which a larger batch may pay
# Steps of which one is timed on CUDA, where each mark is an event in its stream. Odd, because small
# batches are prepared two, four or more at a time, in the first one's step.
EVERY = 7


class Clock:
    """Seconds by part, summed until they are taken.

    On a CPU every step is timed by the wall clock, and parts add up to it. On CUDA one step in
    EVERY is, by events that the device itself stamps, and stands for the others; evaluation is
    timed by the wall clock, as the device has caught up before and after it; idle is the rest. On
    other devices, which run behind without such events, nothing is told.
    """

    def __init__(self, device: "torch.device") -> None:
        self._kind = device.type
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last: float | None = None  # when the wall clock was last read; None before a step
        self._taken = 0.0
        self._steps = 0
        self._timed = False
        self._stamps: list[tuple[str, torch.cuda.Event]] = []

    def begin(self) -> None:
        """A step begins; what passed since the last mark was idle."""
        if self._kind != "cuda":
            self.mark("idle")
            return
        if self._last is None:
            self._last = self._taken = time.perf_counter()
        self._timed = self._steps % EVERY == 0
        self._steps += 1
        self._stamp("")

    def mark(self, part: str) -> None:
        """What was done since the last mark was `part`, one of PARTS."""
        if self._kind == "cuda" and part not in ("evaluation", "idle"):
            self._stamp(part)
            return
        now = time.perf_counter()
        if self._last is not None:
            self._seconds[part] += now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call, and begin anew. The device must have caught up.

        Empty on a device that is neither a CPU nor CUDA.
        """
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        if self._kind == "cuda":
            return self._of_all_steps(seconds["evaluation"])
        return seconds if self._kind == "cpu" else {}

    def _stamp(self, part: str) -> None:
        if self._timed:
            from torch.cuda import Event

            event = Event(enable_timing=True)
            event.record()
            self._stamps.append((part, event))

    def _of_all_steps(self, evaluation: float) -> dict[str, float]:
        """What the timed steps tell of all, within the time that has passed."""
        now, seconds = time.perf_counter(), dict.fromkeys(PARTS, 0.0)
        for (_, before), (part, event) in zip(self._stamps, self._stamps[1:], strict=False):
            if part:  # else a step begins, long after the last that was timed
                seconds[part] += before.elapsed_time(event) / 1000
        there, timed = now - self._taken - evaluation, sum(seconds.values())
        # The very first step also tunes kernels: it must not stand for more than has passed.
        steps_a_sample = self._steps / max(1, -(-self._steps // EVERY))
        factor = min(steps_a_sample, there / timed) if timed else 0.0
        seconds = {part: value * factor for part, value in seconds.items()}
        seconds["evaluation"], seconds["idle"] = evaluation, max(0.0, there - timed * factor)
        self._stamps, self._steps, self._taken = [], 0, now
        return seconds


def flops(model: "nn.Module", size: int) -> float:
    """FLOPs of a forward and a backward pass over one image of size x size pixels.

    Of convolutions and matrix products, a multiplication and an addition counted as two; what is
    frozen has no gradient and costs none. Counted on tensors without data, in milliseconds.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    images = torch.zeros(2, 3, size, size, device="meta")  # two, for batch norm
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).to("meta").train()(images).sum().backward()
    return float(counter.get_total_flops()) / len(images)


def flop_rate(profiles: Sequence[Profile], started: Started) -> float | None:
    """FLOP/s of the steps that these profiles of one sitting tell of, validation left out.

    None where FLOPs or the sizes of images are not known, as in runs of older versions.
    """
    done = sum(
        count * started.flops_by_side.get(side, math.nan)
        for profile in profiles
        for side, count in profile.sides.items()
    )
    seconds = sum(sum(e.seconds.values()) - e.seconds.get("evaluation", 0.0) for e in profiles)
    return done / seconds if seconds and 0 < done < math.inf else None


@dataclass(frozen=True)
class Advice:
    """One sentence, and the change of settings that it asks for, if any."""

    text: str
    change: dict[str, Any] = field(default_factory=dict)


def with_batch_size(settings: TrainConfig, size: int) -> dict[str, Any]:
    """Another batch size, and the learning rate that goes with it.

    In proportion for SGD (Goyal et al. 2017, arXiv:1706.02677, section 2.1), with the root for
    those that divide by the gradients' size (Malladi et al. 2022, arXiv:2205.10287). For Muon no
    rule is known, and phases hold rates of their own.
    """
    ratio = size / settings.batch_size
    power = {"sgd": 1.0, "adam": 0.5, "adamw": 0.5, "rmsprop": 0.5}.get(settings.optimizer)
    if power is None or settings.schedule == "phases":
        return {"batch_size": size}
    highest = SETTINGS["peak_lr"].high or math.inf
    return {
        "batch_size": size,
        "peak_lr": float(f"{min(settings.peak_lr * ratio**power, highest):.2g}"),
    }


def advise(
    seconds: Mapping[str, float],
    settings: TrainConfig,
    *,
    on_cpu: bool,
    images: int,
    rate: float | None,
) -> Advice:
    """What would make this run faster: the first that holds, from the surest to the vaguest.

    seconds: by part, their sum above 0. images: trained on an epoch. rate: FLOP/s of the steps over
    those of the matrix product, None where unknown. Each threshold and its reason stand in
    docs/decisions/10-doctor.md.
    """
    total = sum(seconds.values())
    share = {part: seconds.get(part, 0.0) / total for part in PARTS}
    said = {part: _percent(value) for part, value in share.items()}
    slow = rate is not None and rate < LOW_RATE
    of_product = f"{_percent(rate, 1)} of the matrix product" if rate is not None else ""
    batch, roomy = settings.batch_size, SMALL_BATCH["cpu" if on_cpu else "gpu"]
    larger = min(8 * batch, roomy, images)
    if share["evaluation"] >= 0.2:
        return _validate_less(share["evaluation"], settings)
    if share["idle"] >= 0.15:
        return Advice(
            f"{said['idle']} of the time passes between steps: checkpoints are written to a "
            "slow disk, or other programs compute on this machine."
        )
    tiny = batch < TINY_BATCH and rate is not None and rate < TINY_RATE
    if (slow or tiny) and larger >= 2 * batch:
        return Advice(
            f"Steps of {batch} images are mostly overhead, at {of_product}: try {larger} a step"
            + _rate_said(settings, larger),
            with_batch_size(settings, larger),
        )
    used = next((name for name in COSTLY if getattr(settings, name)), None)
    if share["data"] >= 0.2 and used:
        return Advice(
            f"Preparing images takes {said['data']} of the time, and of what is switched on "
            f"{used} costs most: without it an epoch is faster, but may teach less.",
            {used: type(getattr(settings, used))()},
        )
    if share["data"] >= 0.2:
        return Advice(
            f"Preparing images takes {said['data']} of the time without any augmentation: "
            "the network is so small that fetching its images sets the pace."
        )
    if share["optimizer"] >= 0.2 and min(2 * batch, 4096, images) == 2 * batch:
        return Advice(
            f"The optimizer takes {said['optimizer']} of the time, which is a step's cost "
            f"whatever its images: try {2 * batch} a step" + _rate_said(settings, 2 * batch),
            with_batch_size(settings, 2 * batch),
        )
    if slow and on_cpu and settings.threads > 1:
        return Advice(
            f"Threads are fixed at {settings.threads}, and it computes at {of_product}: "
            "0 measures whether one is faster.",
            {"threads": 0},
        )
    if settings.precision == "fp32":
        return Advice(
            "The number format is fixed at fp32: auto finds out whether a shorter one is faster "
            "here.",
            {"precision": "auto"},
        )
    return Advice(_computing(share["forward"] + share["backward"], rate))


def _rate_said(settings: TrainConfig, size: int) -> str:
    rate = with_batch_size(settings, size).get("peak_lr")
    if rate is None:
        return ", and look for the learning rate anew."
    return f", and a learning rate of {rate:g} with it."


def _validate_less(share: float, settings: TrainConfig) -> Advice:
    """Validation at a tenth of the time, but four times a run at least."""
    text = f"Validation takes {_percent(share)} of the time"
    wanted = math.ceil(settings.eval_every * 9 * share / max(1 - share, 0.01))
    every = min(wanted, settings.epochs // 4)
    if settings.early_stopping or settings.schedule == "plateau":
        return Advice(f"{text}; eval_every makes it rarer, but patience counts validations too.")
    if every <= settings.eval_every:
        return Advice(f"{text}, and the run is too short to validate less often.")
    return Advice(f"{text}: validate every {every} epochs instead.", {"eval_every": every})


def _computing(share: float, rate: float | None) -> str:
    text = f"Forward and backward take {_percent(share)} of the time"
    if rate is None:
        return f"{text}, and nothing else stands out."
    text += f", at {_percent(rate)} of the matrix product"
    if rate >= HIGH_RATE:
        return f"{text}, near what this machine can do: only a smaller network is faster."
    return (
        f"{text}; the rest of its speed is lost to moving data through memory (normalisation, "
        "activations, narrow layers) or to other programs, not to a setting."
    )


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f}\u00a0%"
