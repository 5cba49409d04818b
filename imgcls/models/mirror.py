"""`speed_net` while it learns with `mirror_pairs`: left and right are one thing to it."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from imgcls.models.speed import EPSILON, PATCH, SpeedNet, norm, patch_covariance

ALONE, PAIRS = 12, 6  # filters of the first layer that are their own mirror image; pairs of others
ROW = 128  # pixels that are laid beside each other, about


class MirrorNet(nn.Module):
    """A `SpeedNet` whose filters come in pairs, one the mirror image of the other.

    Mirroring a picture then does no more than swap the features of each pair (but for the last
    column that a pool leaves out), and the head takes their mean: half as many weights, and nothing
    to learn about left and right. Source: Cohen and Welling 2016, "Group equivariant convolutional
    networks", arXiv:1602.07576. Features are (2N, C / 2, H, W): one of each pair, then its twin.
    """

    def __init__(self, classes: int, blocks: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.widths = blocks
        self.whiten = nn.Conv2d(3, ALONE + 2 * PAIRS, PATCH, bias=False)
        self.whiten.weight.requires_grad_(False)
        self.bias = nn.Parameter(torch.zeros(ALONE + PAIRS))  # of `whiten`; twins share one
        (channels, _), *later = [(w, i == 0) for widths in blocks for i, w in enumerate(widths)]
        self.first = nn.Parameter(_filters(channels, ALONE + 2 * PAIRS, ALONE + PAIRS))
        layers: list[nn.Module] = [norm(channels // 2), nn.GELU()]
        for width, begins in later:
            layers.append(MirrorConv(channels, width))
            if begins:
                layers.append(nn.MaxPool2d(2))
            layers += [norm(width // 2), nn.GELU()]
            channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels // 2, classes, bias=False)
        nn.init.normal_(self.head.weight, std=2 / channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images, H and W at least 9, to (N, classes) logits."""
        white = F.gelu(F.conv2d(images, self.whiten.weight, self._biases()))
        sides = [F.conv2d(white, w, padding=1) for w in self._first_filters().chunk(2)]
        features = self.blocks(torch.cat([F.max_pool2d(side, 2) for side in sides]))
        one, twin = F.adaptive_max_pool2d(features, 1).flatten(1).chunk(2)
        logits: Tensor = self.head((one + twin) / 2)
        return logits

    @torch.no_grad()
    def look(self, images: Tensor) -> None:
        """Set the first layer to whiten the patches of (N, 3, H, W) images and of their mirrors."""
        covariance, filters = patch_covariance(images), []
        pixels = torch.eye(3 * PATCH).to(covariance)
        for sign in (1, -1):  # what both columns of a patch have in common, and how they differ
            basis = torch.stack((pixels, sign * pixels), dim=2).flatten(1) / 2**0.5
            values, vectors = torch.linalg.eigh(basis @ covariance @ basis.T)
            found = (vectors.T @ basis) / (values + EPSILON).sqrt().unsqueeze(1)
            filters += [found, -found]  # a filter that differs is its negative's mirror image
        self.whiten.weight.copy_(torch.cat(filters).view_as(self.whiten.weight))

    @torch.no_grad()
    def plain(self) -> SpeedNet:
        """The same network without pairs, for whoever only asks it."""
        network = SpeedNet(len(self.head.weight), self.widths).to(self.bias.device)
        assert network.whiten.bias is not None
        network.whiten.weight.copy_(self.whiten.weight)
        network.whiten.bias.copy_(self._biases())
        filters = [self._first_filters()]
        filters += [layer.filters() for layer in self.blocks if isinstance(layer, MirrorConv)]
        kinds = (nn.Conv2d, nn.BatchNorm2d)
        layers, norms = ([m for m in network.blocks if isinstance(m, kind)] for kind in kinds)
        for layer, wanted in zip(layers, filters, strict=True):
            layer.weight.copy_(wanted)
        own = [m for m in self.blocks if isinstance(m, nn.BatchNorm2d)]
        for free, paired in zip(norms, own, strict=True):
            for name, value in paired.state_dict().items():
                free.state_dict()[name].copy_(value.repeat(2) if value.ndim else value)
        network.head.weight.copy_(self.head.weight.repeat(1, 2) / 2)
        return network.train(self.training)

    def _biases(self) -> Tensor:
        return torch.cat((self.bias, self.bias[ALONE:]))

    def _first_filters(self) -> Tensor:
        alone, ones, twins = self.first.split((ALONE, PAIRS, PAIRS), dim=1)
        return torch.cat((self.first, torch.cat((alone, twins, ones), dim=1).flip(3)))


class MirrorConv(nn.Module):
    """3×3 convolution, padding 1, from pairs of features to pairs of features.

    Of a pair one is w·(a, b), where a and b are the patches of the inputs and of their twins; the
    other, w mirrored ·(b, a). Their sum and difference are products with a + b mirrored and with
    a - b mirrored, each of half the length: half of the arithmetic. Source: Bökman et al. 2025,
    "Flopping for FLOPs", arXiv:2502.05169, who find it for any such network.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_filters(filters, channels, channels // 2))

    def forward(self, features: Tensor) -> Tensor:
        """(2N, channels / 2, H, W) to (2N, filters / 2, H, W)."""
        # Halving was measured on CPUs alone, and a compiler takes no `out=` of slices.
        if features.is_cuda or torch.compiler.is_compiling():
            together = torch.cat(features.chunk(2), dim=1)
            products = F.conv2d(together, self.filters(), padding=1)
            return torch.cat(products.chunk(2, dim=1))
        one, twin = self.weight.chunk(2, dim=1)
        twin = twin.flip(3)
        kernels = [
            half.movedim(3, 1).flatten(1, 2).unsqueeze(3).contiguous()  # columns in a row
            for half in ((one + twin) / 2, (one - twin) / 2)
        ]
        halves = [
            F.conv2d(columns, kernel, padding=(1, 0))
            for columns, kernel in zip(_Columns.apply(features), kernels, strict=True)
        ]
        pairs: Tensor = _Pairs.apply(*halves, features.shape[3])
        return pairs

    def filters(self) -> Tensor:
        """(filters, channels, 3, 3), as a convolution without pairs has them."""
        one, twin = self.weight.chunk(2, dim=1)
        return torch.cat((self.weight, torch.cat((twin, one), dim=1).flip(3)))


class _Columns(torch.autograd.Function):
    """Features, (2N, C, H, W), to what 3×1 kernels turn into sums and differences of pairs.

    Three columns of a patch follow one another as (N / beside, 3C, H, beside · W), once added to
    those of the twin's patch mirrored and once less them. A kernel one pixel wide knows no
    neighbours, so images lie beside each other: rows are long, and matrix units full. Autograd by
    itself would fill memory for each slice on its way back.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        number, channels, height, width = features.shape
        beside = _beside(number // 2, width)
        padded = F.pad(features.permute(0, 2, 3, 1), (0, 0, 1, 1)).unflatten(0, (2, -1, beside))
        sums = padded.new_empty(number // 2 // beside, height, beside, width, 3 * channels)
        differences = torch.empty_like(sums)
        for j in range(3):
            at = slice(j * channels, (j + 1) * channels)
            one = padded[0, ..., j : j + width, :]
            twin = padded[1, ..., 2 - j : 2 - j + width, :]
            torch.add(one, twin, out=sums.transpose(1, 2)[..., at])
            torch.sub(one, twin, out=differences.transpose(1, 2)[..., at])
        ctx.width = width
        return _channels_first(sums), _channels_first(differences)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        sums, differences = (_apart(gradient, ctx.width) for gradient in gradients)
        found = sums.new_empty(2, *sums.shape[:-1], sums.shape[-1] // 3)
        ones, twins = sums + differences, sums - differences
        # What is left of a pixel for one feature is right of it for its twin.
        for here, (left, middle, right) in zip(
            found, (ones.chunk(3, dim=-1), twins.chunk(3, dim=-1)[::-1]), strict=True
        ):
            here[..., -1, :] = middle[..., -1, :]
            torch.add(middle[..., :-1, :], left[..., 1:, :], out=here[..., :-1, :])
            here[..., 1:, :] += right[..., :-1, :]
        return found.flatten(0, 2).permute(0, 3, 1, 2)


class _Pairs(torch.autograd.Function):
    """Sums and differences of pairs, laid beside each other, to features (2N, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, even: Tensor, odd: Tensor, width: int) -> Tensor:
        even, odd = _apart(even, width), _apart(odd, width)
        pairs = even.new_empty(2, *even.shape)
        torch.add(even, odd, out=pairs[0])
        torch.sub(even, odd, out=pairs[1])
        ctx.beside = even.shape[1]
        return pairs.flatten(0, 2).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        one, twin = gradient.permute(0, 2, 3, 1).unflatten(0, (2, -1, ctx.beside))
        rows, beside, *pixel = one.shape
        halves = []
        for combine in (torch.add, torch.sub):
            half = one.new_empty(rows, pixel[0], beside, *pixel[1:])
            combine(one, twin, out=half.transpose(1, 2))
            halves.append(_channels_first(half))
        return halves[0], halves[1], None


def _beside(number: int, width: int) -> int:
    """How many of so many images lie beside each other: a divisor that leaves two rows at least."""
    most = max(1, min(ROW // width, number // 2))
    return max(n for n in range(1, most + 1) if number % n == 0)


def _apart(images: Tensor, width: int) -> Tensor:
    """(N / beside, C, H, beside · W) seen as (N / beside, beside, H, W, C)."""
    apart: Tensor = images.permute(0, 2, 3, 1).unflatten(2, (-1, width)).transpose(1, 2)
    return apart


def _channels_first(images: Tensor) -> Tensor:
    """(rows, H, beside, W, C) seen as (rows, C, H, beside · W)."""
    return images.flatten(2, 3).permute(0, 3, 1, 2)


def _filters(number: int, channels: int, passed: int) -> Tensor:
    """One of each pair of 3×3 filters, (number / 2, channels, 3, 3); the first pass inputs on."""
    weight = torch.empty(number // 2, channels, 3, 3)
    nn.init.kaiming_uniform_(weight, a=5**0.5)  # as nn.Conv2d does
    nn.init.dirac_(weight[:passed])
    return weight
