"""Images on the device: a batch is an index, and pixels become floats in one place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imgcls.config import TrainConfig
from imgcls.data import catalog

FIXED = {"none": ((0.0,) * 3, (1.0,) * 3), "half": ((0.5,) * 3, (0.5,) * 3)}


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, 3) and labels int64 (N,), whole, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load(settings: TrainConfig, split: str, device: torch.device) -> Split:
    """The images of a run's split (train, validation, test, train+validation) on its device."""
    images, labels, rows = catalog.select(
        settings.dataset, split, settings.validation_share, settings.split_seed
    )
    return Split(_to(images[rows], device), _to(labels[rows].astype(np.int64), device))


def statistics(
    settings: TrainConfig,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation a channel, 0..1, by which a run normalises."""
    if settings.normalization in FIXED:
        return FIXED[settings.normalization]
    dataset = catalog.load(settings.dataset)
    return dataset.mean, dataset.std


Channels = Sequence[float] | Tensor


def normalize(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, channels-last in memory: (x/255 - mean) / std."""
    return standardize(to_floats(images), mean, std)


def to_floats(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in 0..1, channels-last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def standardize(images: Tensor, mean: Channels, std: Channels) -> Tensor:
    """(N, 3, H, W) float32 in 0..1 to (x - mean) / std, in place.

    Pass tensors on the images' device inside a loop: copying three numbers each step would wait.
    """
    center = torch.as_tensor(mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    spread = torch.as_tensor(std, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return images.sub_(center).div_(spread)


def _to(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
