"""The zoo: every network takes (N, 3, H, W) normalised images and gives (N, classes) logits."""

from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch.nn as nn
from torch import Tensor

from imgcls import card, config
from imgcls.card import Card
from imgcls.config import TrainConfig
from imgcls.data.tensors import resize
from imgcls.errors import ModelError
from imgcls.models import pretrained, quicker, small_resnet, tutorials, zoo
from imgcls.models.mirror import MirrorNet
from imgcls.models.resized import Resized
from imgcls.models.speed import BLOCKS, SpeedNet

Builder = Callable[[TrainConfig, int, int], nn.Module]


def _plain(build: Callable[[int, int], nn.Module]) -> Builder:
    return lambda settings, classes, size: build(classes, size)


def _speed(settings: TrainConfig, classes: int, size: int) -> nn.Module:
    """In mirrored pairs while it learns, if asked; a card, which has no flip, asks for none."""
    kind = MirrorNet if settings.flip and settings.mirror_pairs else SpeedNet
    return kind(classes, BLOCKS[settings.model])


MODELS: dict[str, Builder] = {
    "softmax": _plain(tutorials.softmax),
    "feedforward": _plain(tutorials.feedforward),
    "net": _plain(tutorials.net),
    "simple_cnn": _plain(tutorials.simple_cnn),
    "cnn": _plain(tutorials.cnn),
    "lenet5": _plain(tutorials.lenet5),
    "small_resnet": _plain(small_resnet.small_resnet),
    **dict.fromkeys(BLOCKS, _speed),
    **dict.fromkeys(zoo.NETWORKS, zoo.build),
}


def build(settings: TrainConfig, classes: int, size: int, *, fetch: bool = True) -> nn.Module:
    """A new network for size×size images; initial weights come from torch's global generator.

    With `input_size` it resizes its images to that and is in a `Resized`. fetch=False leaves out
    pretrained weights, for a caller who fills in weights at once. Raises ConfigError where the
    images are too small, and ModelError where pretrained weights cannot be had.
    """
    config.check_size(settings, size)
    model = quicker.quicken(MODELS[settings.model](settings, classes, settings.input_size or size))
    if settings.pretrained and fetch:
        pretrained.fill(model, settings.model, settings.weights)
    if settings.freeze:
        pretrained.freeze_backbone(model, settings.model)
    return Resized(model, settings.input_size) if settings.input_size else model


def look(model: nn.Module, images: Tensor) -> None:
    """Let a new network take weights from (N, 3, H, W) normalised training images, if it does so.

    Call it once, before training.
    """
    if isinstance(model, Resized):
        look(model.network, resize(images, model.side))
    if isinstance(model, SpeedNet | MirrorNet):
        model.look(images)


def answering(model: nn.Module) -> nn.Module:
    """The network as it answers, after training: itself, or what it is equal to."""
    if isinstance(model, Resized):
        return Resized(answering(model.network), model.side)
    return model.plain() if isinstance(model, MirrorNet) else model


def save(path: Path, model: nn.Module, about: Card) -> None:
    """Write weights and card as one safetensors file.

    A network that learned in pairs of filters is written as the plain one that it is equal to.
    """
    weights = answering(model).state_dict()
    state = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
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
