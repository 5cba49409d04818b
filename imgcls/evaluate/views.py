"""Test-time augmentation: one answer from several views of each picture."""

import torch.nn.functional as F
from torch import Tensor, nn

from imgcls.config import TrainConfig


def answer(model: nn.Module, inputs: Tensor, settings: TrainConfig) -> Tensor:
    """(N, 3, H, W) normalised inputs to (N, classes) logits, averaged over views.

    Views are those that training made: with `flip` the mirror image; with `crop_pad` two shifts by
    a pixel, up-left and down-right, which together weigh as much as the picture as it is. Source:
    Jordan 2024, arXiv:2404.00498, section 3.5. Six passes where both are on; where neither is, one.
    """
    logits = _mirrored(model, inputs, settings)
    if not settings.crop_pad:
        return logits
    height, width = inputs.shape[2:]
    padded = F.pad(inputs, (1, 1, 1, 1), "reflect")
    shifted = (padded[:, :, i : i + height, i : i + width] for i in (0, 2))
    first, second = (_mirrored(model, view, settings) for view in shifted)
    return logits / 2 + (first + second) / 4


def _mirrored(model: nn.Module, inputs: Tensor, settings: TrainConfig) -> Tensor:
    logits: Tensor = model(inputs).float()
    return (logits + model(inputs.flip(3)).float()) / 2 if settings.flip else logits
