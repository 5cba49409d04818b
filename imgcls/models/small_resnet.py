"""The network of recipe `quick`: a residual network made for few images and slow machines."""

import torch.nn as nn
from torch import Tensor


def small_resnet(classes: int, size: int) -> nn.Module:
    """A ten-layer residual network, 64-128-256 channels at 1/2, 1/4 and 1/8 of the image's side.

    Layout after the ResNet-9 of David Page's cifar10-fast (2018), but halved at once by a 4×4
    stem: full-size feature maps of few channels take most time and least advantage of a CPU's
    matrix units. 67 million multiply-adds an image of 32×32.
    """
    del size  # global pooling takes any
    return nn.Sequential(
        _convolution(3, 64, kernel=4, stride=2),
        Residual(64),
        _convolution(64, 128, stride=2),
        Residual(128),
        _convolution(128, 256, stride=2),
        Residual(256),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


class Residual(nn.Module):
    """x + f(x), where f is two 3×3 convolutions that keep the shape (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(channels, channels), _convolution(channels, channels)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        changed: Tensor = self.branch(images)
        return images + changed


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
