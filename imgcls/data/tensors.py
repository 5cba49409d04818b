"""Images on the device: a batch is an index, and pixels become floats in one place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imgcls.config import TrainConfig
from imgcls.data import catalog

FIXED: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # what published weights expect
}


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, H, W, 3) and labels int64 (N,), on one device.

    `pixels` may hold more images than the split: then `rows` int64 (N,) says which are its own.
    On a CPU they stay in the memory-mapped file, so that memory is bounded by a batch.
    """

    pixels: Tensor
    labels: Tensor
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels a side."""
        return self.pixels.shape[1]

    def images(self, which: Tensor | slice) -> Tensor:
        """(n, H, W, 3) uint8 of these of the split's images."""
        rows = which if self.rows is None else self.rows[which]
        if isinstance(rows, slice):
            return self.pixels[rows]
        return self.pixels.index_select(0, rows)  # quicker than pixels[rows], which takes any index


def load(settings: TrainConfig, split: str, device: torch.device) -> Split:
    """The images of a run's split (train, validation, test, train+validation) on its device."""
    images, labels, rows = catalog.select(
        settings.dataset, split, settings.validation_share, settings.split_seed
    )
    own = torch.from_numpy(labels[rows].astype(np.int64)).to(device)
    if device.type == "cpu":
        return Split(torch.from_numpy(images), own, torch.from_numpy(rows))
    return Split(torch.from_numpy(images[rows]).to(device), own)


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
    center = torch.as_tensor(mean, dtype=images.dtype, device=images.device)
    spread = torch.as_tensor(std, dtype=images.dtype, device=images.device)
    pixels, width = images.permute(0, 2, 3, 1), images.shape[3]
    if not pixels.is_contiguous():
        return images.sub_(center.view(1, 3, 1, 1)).div_(spread.view(1, 3, 1, 1))
    # Whole lines of pixels: by the pixel, each loop over memory would end after three numbers.
    pixels.view(-1, 3 * width).sub_(center.repeat(width)).div_(spread.repeat(width))
    return images


def resize(images: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) floats to (N, 3, side, side), bilinear, antialiased where they shrink."""
    if images.shape[-2:] == (side, side):
        return images
    # Antialiasing changes nothing where images grow, but not every exported format knows it.
    shrinks = max(images.shape[-2:]) > side
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=shrinks)
