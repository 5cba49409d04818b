"""Images resized by the network itself, so that whoever asks it need not know."""

import torch.nn as nn
from torch import Tensor

from imgcls.data.tensors import resize


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
