"""The zoo: every network takes (N, 3, H, W) normalised images and gives (N, classes) logits."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch.nn as nn

from imgcls import card
from imgcls.card import Card
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError, ModelError
from imgcls.models import classic, small_resnet, tutorials

Builder = Callable[[TrainConfig, int, int], nn.Module]


def _plain(build: Callable[[int, int], nn.Module]) -> Builder:
    return lambda settings, classes, size: build(classes, size)


MODELS: dict[str, Builder] = {
    "softmax": _plain(tutorials.softmax),
    "feedforward": _plain(tutorials.feedforward),
    "net": _plain(tutorials.net),
    "simple_cnn": _plain(tutorials.simple_cnn),
    "cnn": _plain(tutorials.cnn),
    "lenet5": _plain(tutorials.lenet5),
    "resnet18": classic.resnet18,
    "small_resnet": _plain(small_resnet.small_resnet),
}


def build(settings: TrainConfig, classes: int, size: int, *, fetch: bool = True) -> nn.Module:
    """A new network for size×size images; initial weights come from torch's global generator.

    fetch=False leaves out pretrained weights, for a caller who fills in weights at once. Raises
    ConfigError where the images are too small or the model has no pretrained weights, and
    ModelError where those cannot be had.
    """
    if settings.pretrained and settings.model != "resnet18":
        raise ConfigError(f"{settings.model} has no pretrained weights; resnet18 has.")
    model = MODELS[settings.model](settings, classes, size)
    if settings.pretrained and fetch:
        classic.fill(model, settings.weights)
    if settings.freeze:
        classic.freeze_backbone(model)
    return model


def save(path: Path, model: nn.Module, about: Card) -> None:
    """Write weights and card as one safetensors file."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, path, metadata=about.to_metadata())


def load(path: Path) -> tuple[nn.Module, Card]:
    """The network of a model file, in evaluation mode on the CPU, and its card.

    Raises ModelError where the file is missing, damaged or does not fit its own card.
    """
    known = card.read(path)
    model = build(TrainConfig(**known.architecture), len(known.classes), known.size)
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path.name} does not fit its card: {error}") from None
    return model.eval(), known
