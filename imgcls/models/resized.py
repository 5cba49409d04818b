"""Images resized by the network itself, so that whoever asks it need not know."""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor


class Resized(nn.Module):
    """A network that sees its images at side×side pixels, whatever size they come in."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network = network
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to what the network says of them."""
        answers: Tensor = self.network(resize(images, self.side))
        return answers

    def extra_repr(self) -> str:
        """What `print` shows beside the network."""
        return f"side={self.side}"


def resize(images: Tensor, side: int) -> Tensor:
    """(N, 3, H, W) floats to (N, 3, side, side), bilinear, antialiased where they shrink."""
    if images.shape[-2:] == (side, side):
        return images
    # Antialiasing changes nothing where images grow, but not every exported format knows it.
    shrinks = max(images.shape[-2:]) > side
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=shrinks)
