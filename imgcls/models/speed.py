"""The network of the `speed` recipes: plain convolutions behind a first layer that whitens."""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

PATCH = 2  # side of what the first layer sees
# Widths of the convolutions, block by block: 118, 234 and 318 million multiply-adds an image of
# 32×32, learning in mirrored pairs 66, 131 and 172.
BLOCKS = {
    "speed_net": ((64, 64), (256, 256), (256, 256)),
    "speed_net_wide": ((128, 128), (256, 256), (512, 512)),
    "speed_net_deep": ((128, 128, 128), (256, 256, 256), (512, 512, 512)),
}
EPSILON = 5e-4  # added to eigenvalues before dividing by their root, as the anchor does


class SpeedNet(nn.Module):
    """Whitened patches, then blocks of 3×3 convolutions that each halve the image's side.

    After Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, section
    3: convolutions begin as the identity on their first channels, batch norm learns only biases.
    Unlike there, biases of the first layer learn to the end, and the last pool takes whatever size
    is left, so that images may grow while training.
    """

    def __init__(self, classes: int, blocks: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        channels = 2 * 3 * PATCH**2
        self.whiten = nn.Conv2d(3, channels, PATCH)
        self.whiten.weight.requires_grad_(False)
        self.whiten.bias = nn.Parameter(torch.zeros(channels))
        layers: list[nn.Module] = []
        for widths in blocks:
            for i, width in enumerate(widths):
                layers.append(_convolution(channels, width))
                if i == 0:
                    layers.append(nn.MaxPool2d(2))
                layers += [norm(width), nn.GELU()]
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes, bias=False)
        nn.init.normal_(self.head.weight, std=1 / channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images, H and W at least 9, to (N, classes) logits."""
        features: Tensor = self.blocks(F.gelu(self.whiten(images)))
        # Not amax: compiled in bf16, its gradient divides by the number of maxima, and finds none.
        logits: Tensor = self.head(F.adaptive_max_pool2d(features, 1).flatten(1))
        return logits

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Weights saved before the first layer had biases lack them: they were zero."""
        state.setdefault(f"{prefix}whiten.bias", torch.zeros(self.whiten.out_channels))
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def look(self, images: Tensor) -> None:
        """Set the first layer to whiten the patches of (N, 3, H, W) images (section 3.2)."""
        values, vectors = torch.linalg.eigh(patch_covariance(images))
        filters = vectors.T / (values + EPSILON).sqrt().unsqueeze(1)
        filters = filters.view(-1, 3, PATCH, PATCH)
        self.whiten.weight.copy_(torch.cat((filters, -filters)))


def patch_covariance(images: Tensor) -> Tensor:
    """The (12, 12) second moments of all 2×2 patches of (N, 3, H, W), in float64 on the CPU."""
    patches = F.unfold(images.float(), PATCH).transpose(1, 2).reshape(-1, 3 * PATCH**2)
    patches = patches.to("cpu", torch.float64)  # not every device knows float64
    return patches.T @ patches / len(patches)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])
    return layer


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm that learns biases alone."""
    layer = nn.BatchNorm2d(channels)
    layer.weight.requires_grad_(False)
    return layer
