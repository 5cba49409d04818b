"""Augmentation of whole batches on their device, from a generator alone: same state, same batch.

Every step draws for all images at once; a setting of zero costs nothing. Geometry works on uint8
pixels where it can, since moving a byte is cheaper than moving a float.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from imgcls.config import TrainConfig
from imgcls.data.tensors import to_floats

GROWTH = 4  # pixels a side between two sizes of growing images


def augment(
    images: Tensor, settings: TrainConfig, generator: Generator, mirrored: Tensor | None = None
) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in 0..1, each image changed by its own draw.

    mirrored: bool (N,), which to mirror where `flip` is on; drawn if not given.
    """
    if settings.crop_pad:
        images = shift(images, settings.crop_pad, generator)
    if settings.flip:
        if mirrored is None:
            mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        images = flip(images, mirrored)
    floats = to_floats(images)
    if settings.rotation:
        floats = rotate(floats, settings.rotation, generator)
    if settings.color_jitter:
        floats = jitter(floats, settings.color_jitter, generator)
    if settings.noise:
        noise = torch.randn(floats.shape, generator=generator, device=floats.device)
        floats = (floats + settings.noise * noise).clamp_(0, 1)
    if settings.cutout:
        floats = cutout(floats, settings.cutout, generator)
    return floats


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror those of (N, H, W, 3) left to right that bool (N,) names."""
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(2), images)


def alternating(rows: Tensor, turn: int | Tensor, begin: int) -> Tensor:
    """Which images, by row int64 (N,), to mirror when shown for the `turn`-th time: bool (N,).

    Two turns show each image both ways, unlike two draws. Which half begins mirrored follows from
    a hash of row and `begin`, 63 bits. Source: alternating flip, Jordan 2024, arXiv:2404.00498,
    section 3.6.
    """
    mixed = (rows + begin) * 0x5851F42D4C957F2D  # Knuth's multiplier; what overflows is lost
    mixed = (mixed ^ (mixed >> 29)) * 0x14057B7EF767814F
    return (mixed >> 41 & 1) != turn % 2


def side_at(settings: TrainConfig, share: float, full: int) -> int:
    """Pixels a side after this share of a run's steps: steps of four from start_size to `full`.

    Source: progressive resizing, Howard and others' fast.ai entry to DAWNBench (2018).
    """
    begin = settings.start_size
    if not begin or begin >= full or share >= settings.full_size_from:
        return full
    sizes = range(begin, full, GROWTH)
    return sizes[int(share / settings.full_size_from * len(sizes))]


def shift(images: Tensor, pad: int, generator: Generator) -> Tensor:
    """Move each of (N, H, W, 3) by its own -pad..pad pixels an axis, borders reflected.

    A pad of H or more reflects as far as there are pixels. Source: pad-and-crop of He et al. 2015,
    arXiv:1512.03385, section 4.2, with the reflected border of cifar10-fast (Page 2018).
    """
    n, height, width, _ = images.shape
    rows = _reflected_offsets(n, height, pad, generator, images.device)
    columns = _reflected_offsets(n, width, pad, generator, images.device)
    flat = images.reshape(n, height * width, 3)
    index = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(n, height * width, 1)
    return flat.gather(1, index.expand(-1, -1, 3)).view_as(images)


def _reflected_offsets(
    n: int, length: int, pad: int, generator: Generator, device: torch.device
) -> Tensor:
    """(N, length): where each output pixel comes from, reflected at the ends without repeating."""
    pad = min(pad, length - 1)
    offset = torch.randint(-pad, pad + 1, (n, 1), generator=generator, device=device)
    position = (torch.arange(length, device=device) + offset).abs()
    return torch.where(position >= length, 2 * (length - 1) - position, position)


def rotate(images: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Rotate each of (N, 3, H, W) about its centre by ±degrees, bilinear, black outside."""
    n, _, height, width = images.shape
    turn = torch.rand(n, generator=generator, device=images.device).mul_(2).sub_(1)
    angle = turn * math.radians(degrees)
    sin, cos, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    aspect = height / width
    matrix = torch.stack(
        [
            torch.stack([cos, -sin * aspect, zero], dim=1),
            torch.stack([sin / aspect, cos, zero], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [n, 3, height, width], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def jitter(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Scale brightness, contrast and saturation of each of (N, 3, H, W) by 1-share..1+share."""
    draws = torch.rand((3, len(images), 1, 1, 1), generator=generator, device=images.device)
    brightness, contrast, saturation = draws.mul_(2 * share).add_(1 - share)
    images = (images * brightness).clamp_(0, 1)
    mean_luma = _luma(images).mean((2, 3), keepdim=True)
    images = torch.lerp(mean_luma, images, contrast).clamp_(0, 1)
    return torch.lerp(_luma(images), images, saturation).clamp_(0, 1)


def _luma(images: Tensor) -> Tensor:
    """ITU-R BT.601 luma of (N, 3, H, W), with scalars: a tensor of weights would be copied over."""
    return 0.299 * images[:, 0:1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:3]


def cutout(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Fill a side×side square of each of (N, 3, H, W) with mid-grey, its centre uniform.

    Source: DeVries and Taylor 2017, arXiv:1708.04552; squares may reach over the border.
    """
    n, _, height, width = images.shape
    device = images.device
    top = torch.rand((n, 1), generator=generator, device=device).mul_(height).floor_() - side // 2
    left = torch.rand((n, 1), generator=generator, device=device).mul_(width).floor_() - side // 2
    y, x = torch.arange(height, device=device), torch.arange(width, device=device)
    inside_y = (y >= top) & (y < top + side)
    inside_x = (x >= left) & (x < left + side)
    hole = inside_y.unsqueeze(2) & inside_x.unsqueeze(1)
    return images.masked_fill(hole.unsqueeze(1), 0.5)


def preview(
    pixels: NDArray[np.uint8], settings: TrainConfig, n: int, seed: int
) -> NDArray[np.uint8]:
    """`n` draws for one (H, W, 3) image as training would make them: uint8 (n, H, W, 3)."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(0).repeat(n, 1, 1, 1)
    floats = augment(images, settings, torch.Generator().manual_seed(seed))
    result: NDArray[np.uint8] = (
        floats.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    )
    return result
