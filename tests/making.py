"""Runs and files that several tests need."""

import io
from datetime import datetime

import numpy as np
import torch
from PIL import Image

from imgcls import models, runs
from imgcls.card import Card, architecture
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.evaluate import predictions
from imgcls.runs import Run

NOW = datetime(2026, 1, 2, 3, 4, 5)


def publish_tiny(name: str = "tiny") -> str:
    """A data set that a model learns in seconds: classes differ by colour."""
    draw = np.random.default_rng(0)
    splits = {}
    for split, each in (("train", 20), ("test", 10)):
        labels = np.repeat(np.arange(3), each)
        images = draw.integers(0, 120, (3 * each, 32, 32, 3), dtype=np.uint8)
        images[np.arange(len(labels)), :, :, labels] += 100
        splits[split] = images, labels
    with catalog.publishing(name) as draft:
        catalog.write(
            draft,
            name=name,
            classes=("red", "green", "blue"),
            splits=splits,
            resized="made at 32×32 px",
            source="made up by the tests",
        )
    return name


def untrained_run(dataset: str = "tiny", now: datetime = NOW, **settings: object) -> Run:
    """A run on a data set on disk with the weights it was born with, and nothing trained."""
    config = TrainConfig(dataset=dataset, **{"model": "softmax", **settings})
    facts = catalog.load(dataset)
    run = runs.create(config, facts.fingerprint, now)
    save_model(run, seed=0)
    return run


def judged_run(**settings: object) -> Run:
    """An untrained run on `tiny` whose answers to validation and test images are stored."""
    run = untrained_run(**settings)
    for split in ("validation", "test"):
        predictions.compute(run.id, split)
    return run


def save_model(run: Run, seed: int, fill: float | None = None) -> None:
    """Give a run a model: weights drawn by `seed`, or all equal to `fill`."""
    facts = catalog.load(run.config.dataset)
    torch.manual_seed(seed)
    model = models.build(run.config, len(facts.classes), facts.size)
    if fill is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(fill)
    card = Card(
        architecture=architecture(run.config),
        classes=facts.classes,
        size=facts.size,
        fit="squash",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        run=run.id,
        recipe=run.config.recipe,
        dataset=facts.name,
        fingerprint=facts.fingerprint,
        epoch=1,
        val_accuracy=None,
    )
    run.save_model(lambda path: models.save(path, model, card))


def png(seed: int = 0, size: tuple[int, int] = (32, 32)) -> bytes:
    """A PNG of noise."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
