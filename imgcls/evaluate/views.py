"""Test-time augmentation: one answer from several views of each picture.

torch is imported where it is used, so that a page may ask what it costs.
"""

from typing import TYPE_CHECKING

from imgcls.config import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor, nn


def passes(settings: TrainConfig) -> int:
    """Of the model for an answer: as many as there are views."""
    return (2 if settings.flip else 1) * (3 if settings.crop_pad else 1)


def answer(model: "nn.Module", inputs: "Tensor", settings: TrainConfig) -> "Tensor":
    """(N, 3, H, W) normalised inputs to (N, classes) logits, averaged over views.

    Views are those that training made: with `flip` the mirror image; with `crop_pad` two shifts by
    a pixel, up-left and down-right, which together weigh as much as the picture as it is. Source:
    Jordan 2024, arXiv:2404.00498, section 3.5. Six passes where both are on; where neither is, one.
    """
    import torch.nn.functional as F

    logits = _mirrored(model, inputs, settings)
    if not settings.crop_pad:
        return logits
    height, width = inputs.shape[2:]
    padded = F.pad(inputs, (1, 1, 1, 1), "reflect")
    shifted = (padded[:, :, i : i + height, i : i + width] for i in (0, 2))
    first, second = (_mirrored(model, view, settings) for view in shifted)
    return logits / 2 + (first + second) / 4


def _mirrored(model: "nn.Module", inputs: "Tensor", settings: TrainConfig) -> "Tensor":
    logits: Tensor = model(inputs).float()
    return (logits + model(inputs.flip(3)).float()) / 2 if settings.flip else logits
