"""Named settings: the tutorials', to be repeated and understood, and our own, to be used.

This module imports neither torch nor streamlit.
"""

from dataclasses import dataclass
from typing import Any

from imgcls.config import TrainConfig
from imgcls.errors import ConfigError

DEFAULT = "speed"


@dataclass(frozen=True)
class Recipe:
    """A starting point, and what may be hoped for from it."""

    config: TrainConfig
    title: str
    expected: str  # on CIFAR-10, one sentence; for a tutorial the figure that it reports
    source: str


def config_for(recipe: str, dataset: str, **changes: Any) -> TrainConfig:
    """The settings of a recipe on a data set, with some changed.

    Raises ConfigError for a recipe that does not exist or a change that does not fit. A change of
    epochs alone stretches or cuts the recipe's phases in proportion.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"No recipe named {recipe!r}. Choose one of: {', '.join(RECIPES)}.")
    settings = RECIPES[recipe].config
    if settings.phases and "epochs" in changes and not {"phases", "schedule"} & changes.keys():
        changes = {**changes, "phases": rescaled(settings, changes["epochs"])}
    return settings.replace(dataset=dataset, **changes)


def rescaled(settings: TrainConfig, epochs: Any) -> tuple[tuple[int, float], ...]:
    """The settings' phases, stretched or cut to so many epochs; what rounds to none is left out."""
    if type(epochs) is not int:
        return settings.phases
    ends, total = [], 0
    for length, lr in settings.phases:
        total += length
        ends.append((round(total * epochs / settings.epochs), lr))
    starts = [0, *(end for end, _ in ends)]
    scaled = ((end - start, lr) for start, (end, lr) in zip(starts, ends, strict=False))
    return tuple((length, lr) for length, lr in scaled if length > 0)


def _recipe(name: str, title: str, expected: str, source: str, **settings: Any) -> Recipe:
    return Recipe(TrainConfig(recipe=name, **settings), title, expected, source)


_SPEED: dict[str, Any] = {
    "model": "speed_net",
    "batch_size": 500,
    "optimizer": "muon",
    "peak_lr": 0.18,
    "momentum": 0.6,
    "schedule": "one-cycle",
    "warmup_share": 0.0,
    "label_smoothing": 0.2,
    "flip": True,
    "alternating_flip": True,
    "mirror_pairs": True,
    "crop_pad": 2,
    "normalization": "dataset",
}

RECIPES: dict[str, Recipe] = {
    "speed-fast": _recipe(
        "speed-fast",
        "Speed, fast: three passes over growing images",
        "87.6 % (three seeds) after 3 minutes (one run) on two CPU cores without AMX; 0.03 PFLOP.",
        "Ours, after Jordan 2024 (arXiv:2404.00498) and, for the pairs, Bökman et al. 2025 "
        "(arXiv:2502.05169).",
        **_SPEED | {"batch_size": 250, "peak_lr": 0.14},
        epochs=3,
        start_size=20,
        full_size_from=0.8,
        hard_share=0.6,
        hard_from=0.34,
    ),
    "speed": _recipe(
        "speed",
        "Speed: mirrored pairs of filters, Muon, small batches, growing images",
        "89.4 % (three seeds) after 7 minutes (one run) on two CPU cores without AMX; 0.1 PFLOP.",
        "Ours, after Jordan 2024 (arXiv:2404.00498) and, for the pairs, Bökman et al. 2025 "
        "(arXiv:2502.05169).",
        **_SPEED,
        epochs=7,
        start_size=24,
        full_size_from=0.5,
        hard_share=0.6,
        hard_from=0.5,
    ),
    "speed-max": _recipe(
        "speed-max",
        "Speed, max: wider and deeper, 18 passes",
        "90.9 % (two seeds); 43 minutes on two CPU cores without AMX, by the time of its steps; "
        "0.7 PFLOP.",
        "Ours, after Jordan 2024 (arXiv:2404.00498) and, for the pairs, Bökman et al. 2025 "
        "(arXiv:2502.05169).",
        **_SPEED | {"model": "speed_net_deep", "batch_size": 250, "peak_lr": 0.14},
        epochs=18,
        start_size=24,
        full_size_from=0.6,
        hard_share=0.6,
        hard_from=0.5,
        cutout=10,
    ),
    "quick": _recipe(
        "quick",
        "Quick: a small residual network",
        "84 % after 10 minutes on two CPU cores, in a slow hour.",
        "Ours, after David Page's ResNet-9 for DAWNBench (2018).",
        model="small_resnet",
        epochs=7,
        batch_size=256,
        optimizer="sgd",
        peak_lr=0.2,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        warmup_share=0.25,
        label_smoothing=0.1,
        flip=True,
        crop_pad=2,
        normalization="dataset",
    ),
    "tutorial-softmax": _recipe(
        "tutorial-softmax",
        "Logistic regression on pixels",
        "Its tutorial names the model and reports no figure.",
        "Tutorial: image classification with logistic regression (Medium).",
        model="softmax",
        epochs=10,
        batch_size=128,
        optimizer="sgd",
        peak_lr=0.01,
        momentum=0.0,
        normalization="none",
    ),
    "tutorial-feedforward": _recipe(
        "tutorial-feedforward",
        "Feed-forward network in phases of learning rate",
        "Its tutorial reports 54 % and a test loss of 1.30, with a ReLU on the logits that can "
        "only lose and is left out here.",
        "Tutorial: image classification with PyTorch, feed-forward (Medium).",
        model="feedforward",
        epochs=64,
        batch_size=128,
        optimizer="sgd",
        peak_lr=0.05,
        momentum=0.0,
        schedule="phases",
        phases=((10, 0.05), (8, 0.005), (7, 0.01), (4, 0.001), (10, 0.0001), (25, 0.001)),
        normalization="none",
    ),
    "tutorial-net": _recipe(
        "tutorial-net",
        "The first convolutional network of PyTorch's tutorial",
        "Its tutorial reports 55 %.",
        "Tutorial: PyTorch image modelling, simple version; PyTorch's CIFAR-10 tutorial.",
        model="net",
        epochs=2,
        batch_size=4,
        optimizer="sgd",
        peak_lr=0.001,
        momentum=0.9,
    ),
    "tutorial-cnn": _recipe(
        "tutorial-cnn",
        "Three convolutions with Adam and L2",
        "Its tutorial reports about 72 %.",
        "Tutorial: a CNN image classifier with PyTorch (GeeksforGeeks).",
        model="cnn",
        epochs=50,
        batch_size=128,
        optimizer="adam",
        peak_lr=0.001,
        weight_decay=0.01,
    ),
    "tutorial-simple-cnn": _recipe(
        "tutorial-simple-cnn",
        "Batch norm, dropout, plateau and early stopping",
        "Its tutorial reports no figure.",
        "Tutorial: image classification from data set to deployment.",
        model="simple_cnn",
        epochs=30,
        batch_size=32,
        optimizer="adam",
        peak_lr=0.001,
        schedule="plateau",
        gamma=0.1,
        patience=3,
        early_stopping=6,
    ),
    "tutorial-resnet18": _recipe(
        "tutorial-resnet18",
        "ImageNet's ResNet-18, fine-tuned at 32×32",
        "Its tutorial reports 81 %, from ImageNet weights.",
        "Tutorial: PyTorch image modelling, optimised version.",
        model="resnet18",
        stem="imagenet",
        pretrained=True,
        epochs=10,
        batch_size=256,
        optimizer="adam",
        peak_lr=0.001,
        flip=True,
        rotation=10.0,
    ),
}
