"""Layers that do the same work in another order, because it takes less time or comes out right."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


def in_tiles(told: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bf16 in tiles (AMX), as far as Linux tells."""
    try:
        return "amx_bf16" in told.read_text().split()
    except OSError:
        return False


ROW = 64  # pixels that are laid beside each other, about
NARROW = 8 if in_tiles() else 0  # widest image for which it pays


class Widened(nn.Conv2d):
    """A centred convolution that gives images one pixel wide a column of zeros, at stride 2.

    No sum changes by that. But of such images oneDNN 3.12 can get the gradient for the weights
    wrong in bfloat16: far off, infinite or not a number (docs/experiments.md, 2026-11-26 and 28).
    """

    def forward(self, images: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        wrong = images.shape[3] == 1 and self.stride[1] == 2 and images.device.type == "cpu"
        if wrong and torch.is_autocast_enabled("cpu"):
            images = F.pad(images, (0, 1))
        return super().forward(images)


class SideBySide(Widened):
    """A 3×3 convolution with padding 1 that lays small images side by side; the same sums.

    Only in training, in bfloat16, on a CPU, and for images at most NARROW wide: (N, C, H, W) to
    (N, filters, ⌈H / stride⌉, ⌈W / stride⌉). Measured with oneDNN 3.12 in torch 2.14.1 on a Xeon
    with AMX: the gradient for the weights of 256 filters over 250 images of 7×7 took 66 ms as it is
    and 27 ms this way, of 3×3 14 and 3 ms. Its kernel multiplies rows of an image in tiles of 32
    pixels and fills what a narrow image lacks. In float32 nothing is gained, and without AMX it
    costs a twentieth of a step or more (docs/experiments.md, 2026-11-26 and 28).
    """

    def forward(self, images: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        number, _, _, width = images.shape
        pays = self.training and width <= NARROW and images.device.type == "cpu"
        if not (pays and torch.is_autocast_enabled("cpu")):
            return super().forward(images)
        stride = int(self.stride[1])
        apart = -(-(width + 1) // stride) * stride  # an image and the zeros right of it
        beside = max(1, ROW // apart)
        spare = (0, 0, 0, apart - width, 0, 0, 0, -number % beside)
        padded = F.pad(images.permute(0, 2, 3, 1), spare)
        rows = padded.unflatten(0, (-1, beside)).transpose(1, 2)  # (groups, H, beside, apart, C)
        sums = super().forward(rows.flatten(2, 3).permute(0, 3, 1, 2))
        each = sums.permute(0, 2, 3, 1).unflatten(2, (beside, -1)).transpose(1, 2)
        each = each[:, :, :, : -(-width // stride)]  # without what lies between two images
        apiece: Tensor = each.flatten(0, 1)[:number].permute(0, 3, 1, 2)
        return apiece


class PoolFirst(nn.Sequential):
    """Layers in turn, but where a max-pool follows a ReLU, it goes first; the same numbers.

    ReLU keeps the order of positive values, so the maximum is the same either way, and its gradient
    goes to the same pixel or nowhere; but behind a pool of 2×2 ReLU has a quarter as much to do.
    Only in training: whoever asks layers of a trained network finds them in their own order.
    """

    def forward(self, images: Tensor) -> Tensor:
        """As `nn.Sequential`."""
        layers = list(self)
        if self.training:
            for i, pair in enumerate(list(pairwise(layers))):
                if _swap(*pair):
                    layers[i : i + 2] = reversed(pair)
        for layer in layers:
            images = layer(images)
        return images


def quicken(model: nn.Module) -> nn.Module:
    """Let every layer that can do so take the quicker way, or the one that comes out right.

    Classes of layers change; weights, hooks and names in the state stay as they are.
    """
    for layer in model.modules():
        if type(layer) is nn.Conv2d and _centred(layer):
            if layer.kernel_size == (3, 3) and layer.groups == 1:
                layer.__class__ = SideBySide
            elif layer.stride[1] == 2:
                layer.__class__ = Widened
        elif type(layer) is nn.Sequential and any(_swap(*pair) for pair in pairwise(layer)):
            layer.__class__ = PoolFirst
    return model


def undo(model: nn.Module) -> nn.Module:
    """Undo `quicken`: a network that only answers is plain, and any compiler understands it."""
    for layer in model.modules():
        if isinstance(layer, Widened):
            layer.__class__ = nn.Conv2d  # type: ignore[assignment]
        elif type(layer) is PoolFirst:
            layer.__class__ = nn.Sequential  # type: ignore[assignment]
    return model


def _swap(one: nn.Module, following: nn.Module) -> bool:
    return isinstance(one, nn.ReLU) and isinstance(following, nn.MaxPool2d)


def _centred(layer: nn.Conv2d) -> bool:
    """Whether it has zeros around the image, half a filter of them, and steps of one or two."""
    return (
        all(side % 2 for side in layer.kernel_size)
        and layer.padding == tuple(side // 2 for side in layer.kernel_size)
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and layer.stride in ((1, 1), (2, 2))
    )
