"""A moving average of a network's weights, which is often the better network."""

import copy

import torch
import torch.nn as nn


def start(model: nn.Module) -> nn.Module:
    """The average after no step: a copy that learns nothing by itself."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, keep: float, step: int) -> None:
    """Move the average towards `model` after its step number `step`, from 1, in place.

    The average keeps `keep` of itself, and less in the first steps, so that the initial weights are
    soon forgotten: (1 + step) / (10 + step), as TensorFlow's ExponentialMovingAverage has it. The
    statistics of batch norm are averaged too. Nothing waits for the device.
    """
    keep = min(keep, (1 + step) / (10 + step))
    mine, theirs = average.state_dict(), model.state_dict()
    floats = [name for name, value in mine.items() if value.is_floating_point()]
    torch._foreach_lerp_([mine[n] for n in floats], [theirs[n] for n in floats], 1 - keep)
    for name in mine.keys() - set(floats):
        mine[name].copy_(theirs[name])
