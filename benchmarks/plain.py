"""The loop as the tutorials write it: pictures one by one through torchvision, DataLoader, fp32."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn as nn
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from imgcls import optim
from imgcls.config import TrainConfig
from imgcls.data import tensors

WORKERS = 2  # the tutorials take 2 or 4

OPTIMIZERS: dict[str, Callable[[nn.Module, TrainConfig], torch.optim.Optimizer]] = {
    "sgd": lambda model, settings: torch.optim.SGD(
        model.parameters(),
        lr=settings.peak_lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
    ),
    "adam": lambda model, settings: torch.optim.Adam(
        model.parameters(), lr=settings.peak_lr, weight_decay=settings.weight_decay
    ),
    "muon": optim.build,  # torch has none of its own for convolutions
}


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision.datasets.CIFAR10: pictures in memory, transformed one at a time."""

    def __init__(
        self, pictures: list[Image.Image], labels: list[int], transform: Callable[[Any], Tensor]
    ) -> None:
        self.pictures, self.labels, self.transform = pictures, labels, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def pictures(images: NDArray[np.uint8]) -> list[Image.Image]:
    """(N, H, W, 3) uint8 as Pillow's images."""
    return [Image.fromarray(np.asarray(image)) for image in images]


def transform(settings: TrainConfig, size: int) -> Callable[[Any], Tensor]:
    """What the settings ask for, from torchvision; raises ValueError for what it has no part of."""
    for name in ("color_jitter", "noise", "cutout"):
        if getattr(settings, name):
            raise ValueError(f"The plain loop has no {name}.")
    mean, std = tensors.statistics(settings)
    steps: list[Any] = []
    if settings.crop_pad:
        steps.append(transforms.RandomCrop(size, settings.crop_pad, padding_mode="reflect"))
    if settings.flip:
        steps.append(transforms.RandomHorizontalFlip())
    if settings.rotation:
        steps.append(transforms.RandomRotation(settings.rotation))
    composed: Callable[[Any], Tensor] = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    return composed


def loader(data: Pictures, batch: int, seed: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled batches from worker processes, which stay for all epochs."""
    return DataLoader(
        data,
        batch,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
        drop_last=True,  # a last batch of one would be no food for batch norm
        generator=torch.Generator().manual_seed(seed),
    )


def train(
    model: nn.Module, batches: DataLoader[tuple[Tensor, int]], settings: TrainConfig
) -> Iterator[tuple[int, bool]]:
    """Train in place; yields after each step its images, and whether it ended an epoch."""
    device = next(model.parameters()).device
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    optimizer = OPTIMIZERS[settings.optimizer](model, settings)
    for _ in range(settings.epochs):
        model.train()
        running_loss = 0.0
        for i, (images, labels) in enumerate(batches, 1):
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            yield len(labels), i == len(batches)


def signal(workers: list[psutil.Process], what: str) -> None:
    """Stop the loader's processes where they are, or let them go on: suspend or resume.

    Those that ended with their loader are passed over.
    """
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            getattr(worker, what)()
