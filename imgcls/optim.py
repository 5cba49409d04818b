"""Optimizers by name, and the learning rate as a function of the step."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from torch.optim import Optimizer

from imgcls import muon
from imgcls.config import TrainConfig

Builder = Callable[[nn.Module, TrainConfig, str], Optimizer]


def _sgd(model: nn.Module, settings: TrainConfig, _: str) -> Optimizer:
    return torch.optim.SGD(
        learning(model),
        lr=settings.peak_lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _rmsprop(model: nn.Module, settings: TrainConfig, _: str) -> Optimizer:
    return torch.optim.RMSprop(
        learning(model),
        lr=settings.peak_lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=True,  # torch has no fused kernel for it
    )


def _adam(kind: Any) -> Builder:
    def build(model: nn.Module, settings: TrainConfig, _: str) -> Optimizer:
        optimizer: Optimizer = kind(
            learning(model), lr=settings.peak_lr, weight_decay=settings.weight_decay, fused=True
        )
        return optimizer

    return build


def _muon(model: nn.Module, settings: TrainConfig, precision: str) -> Optimizer:
    return muon.Muon(
        learning(model),
        lr=settings.peak_lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )


# Fused on every device: one kernel a step, and no read-back of Adam's step count.
OPTIMIZERS: dict[str, Builder] = {
    "sgd": _sgd,
    "adam": _adam(torch.optim.Adam),  # weight decay is L2: added to the gradient
    "adamw": _adam(torch.optim.AdamW),  # weight decay is decoupled: Loshchilov 2017, 1711.05101
    "rmsprop": _rmsprop,
    "muon": _muon,
}


def build(model: nn.Module, settings: TrainConfig, precision: str = "fp32") -> Optimizer:
    """The optimizer of a run over the parameters that learn.

    precision: the run's number format, fp32, bf16 or fp16. Where it is bf16 Muon multiplies its
    matrices so too; a processor without bf16 units would take fifty times as long.
    """
    return OPTIMIZERS[settings.optimizer](model, settings, precision)


def learning(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [p for p in model.parameters() if p.requires_grad]


def _constant(settings: TrainConfig, epochs: float) -> float:
    return 1.0


def _step(settings: TrainConfig, epochs: float) -> float:
    return settings.gamma ** int(epochs / settings.step_epochs)


def _cosine(settings: TrainConfig, epochs: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, epochs / settings.epochs))


def _one_cycle(settings: TrainConfig, epochs: float) -> float:
    share = min(1.0, epochs / settings.epochs)
    if share < settings.warmup_share:
        return share / settings.warmup_share
    return (1 - share) / (1 - settings.warmup_share)


def _phases(settings: TrainConfig, epochs: float) -> float:
    end = 0
    for length, lr in settings.phases:
        end += length
        if epochs < end:
            return lr / settings.peak_lr
    return settings.phases[-1][1] / settings.peak_lr


# Factor on peak_lr after so many epochs (a fraction within one). one-cycle rises and falls along
# straight lines and leaves momentum alone, unlike Smith 2018, arXiv:1803.09820. plateau is constant
# here: train.State counts its cuts.
SCHEDULES: dict[str, Callable[[TrainConfig, float], float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
    "one-cycle": _one_cycle,
    "plateau": _constant,
    "phases": _phases,
}


def learning_rate(settings: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of the step that follows `step` others, cuts of schedule plateau left out."""
    # The middle of the step, so that a schedule that touches zero never wastes a whole step on it.
    epochs = (step + 0.5) / steps_per_epoch
    if settings.steps:  # a time budget's: the schedule is compressed to end with the last of them
        epochs *= settings.epochs * steps_per_epoch / settings.steps
    return settings.peak_lr * SCHEDULES[settings.schedule](settings, epochs)
