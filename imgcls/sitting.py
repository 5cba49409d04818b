"""What training begins with, at first and after each break: network, state and images."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from imgcls import machine, models, train
from imgcls.config import TrainConfig
from imgcls.data import catalog, tensors
from imgcls.data.tensors import Split
from imgcls.team import ALONE, Team

LOOK_IMAGES = 5000  # about, which a network may take its first weights from


@dataclass(frozen=True)
class Sitting:
    """A state ready for `train.fit`, and the images to train and validate on."""

    state: train.State
    train: Split
    validation: Split | None  # None where the validation images are trained on


def begin(
    settings: TrainConfig,
    *,
    saved: dict[str, Any] | None = None,
    format: tuple[str, int] | None = None,
    team: Team = ALONE,
) -> Sitting:
    """Build what these settings ask for, on the device that they name.

    saved: a `state_dict` to go on from. format: number format and threads, where they are known;
    else they are chosen for this network on this machine. Sets this process's threads. Raises
    ConfigError, DataError or ModelError where the settings ask for what is not there.
    """
    dataset = catalog.load(settings.dataset)
    device = machine.device(settings.device)
    if device.type == "cuda" and team.size > 1:
        device = torch.device("cuda", team.rank)
        torch.cuda.set_device(device)
    machine.prepare(device)
    torch.manual_seed(train.mix("weights", settings.seed, 0))
    model = models.build(settings, len(dataset.classes), dataset.size, fetch=saved is None)
    model.to(device=device).to(memory_format=torch.channels_last)
    precision, threads = _agreed(settings, format, team, model, device, dataset.size)
    torch.set_num_threads(threads)
    split = tensors.load(settings, settings.train_on, device)
    validation = (
        tensors.load(settings, "validation", device) if settings.train_on == "train" else None
    )
    mean, std = tensors.statistics(settings)
    if saved is None:
        every = max(1, len(split) // LOOK_IMAGES)  # the first would be of one class
        some = split.images(slice(None, None, every))
        models.look(model, tensors.normalize(some, mean, std))
    weights = class_weights(split, len(dataset.classes)) if settings.class_weights else None
    state = train.State(model, settings, precision, mean, std, team, weights)
    if saved is not None:
        state.load_state_dict(saved)
    return Sitting(state, split, validation)


def class_weights(split: Split, classes: int) -> torch.Tensor:
    """(classes,): one over each class's share of the images, scaled to a mean of 1 over images.

    As scikit-learn's class_weight="balanced"; a class without images gets 0.
    """
    counts = torch.bincount(split.labels, minlength=classes)
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(split) / (present * counts.clamp(min=1)), 0.0)


def _agreed(
    settings: TrainConfig,
    format: tuple[str, int] | None,
    team: Team,
    model: nn.Module,
    device: torch.device,
    size: int,
) -> tuple[str, int]:
    """Number format and threads a process, as the leader knows or measures them."""
    names = list(machine.DTYPES)
    precision, threads = format or (names[0], 1)
    if team.rank == 0 and format is None:
        precision, threads = machine.choose(settings, device, model, size)
        threads = max(1, threads // team.size)
    index, count = team.hear(names.index(precision), threads)  # always: followers know less
    return names[int(index)], int(count)
