"""The settings of a training run: names, defaults, limits and help, checked when a config is born.

Pages and the command line read everything they show of a setting from here (`SETTINGS`), so a
limit stands in one place. This module imports neither torch nor streamlit.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from imgcls.errors import ConfigError

MODELS = (
    "softmax",
    "feedforward",
    "net",
    "simple_cnn",
    "cnn",
    "lenet5",
    "resnet18",
    "resnet34",
    "resnet50",
    "alexnet",
    "vgg11",
    "vgg16",
    "googlenet",
    "inception_v3",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "small_resnet",
    "speed_net",
    "speed_net_wide",
    "speed_net_deep",
)
STEMS = ("small", "imagenet")
# Networks that can learn filters in mirrored pairs.
IN_PAIRS = ("speed_net", "speed_net_wide", "speed_net_deep")
# Networks with ImageNet weights; the stem decides nothing in the others.
PUBLISHED = (
    "alexnet",
    "vgg11",
    "vgg16",
    "resnet18",
    "resnet34",
    "resnet50",
    "googlenet",
    "inception_v3",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
)
OF_ONE_SIZE = (  # their last layers count on the size that they were built for
    "softmax",
    "feedforward",
    "net",
    "simple_cnn",
    "cnn",
    "lenet5",
    "vit_b_16",
)
# Pixels a side of the smallest image that leaves a network's last layers something, with stem small
# and with stem imagenet; networks that are not named take any. vit_b_16 cuts squares of that side.
LEAST_SIDE = {
    "net": (16, 16),
    "simple_cnn": (4, 4),
    "cnn": (8, 8),
    "lenet5": (32, 32),
    "alexnet": (15, 63),
    "vgg11": (32, 32),
    "vgg16": (32, 32),
    "googlenet": (2, 15),
    "inception_v3": (75, 75),
    "convnext_tiny": (16, 32),
    "vit_b_16": (16, 16),
    "small_resnet": (2, 2),
    "speed_net": (9, 9),
    "speed_net_wide": (9, 9),
    "speed_net_deep": (9, 9),
}
AS_PUBLISHED_ONLY = ("inception_v3", "vit_b_16")  # their layouts leave nothing of a small image
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "muon")
SCHEDULES = ("constant", "step", "cosine", "one-cycle", "plateau", "phases")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
COMPILE = ("none", "compile", "cuda-graphs")
DEVICES = ("auto", "cpu", "cuda", "mps")
NORMALIZATIONS = ("none", "half", "dataset", "imagenet")
TRAIN_ON = ("train", "train+validation")

Phases = tuple[tuple[int, float], ...]


def home() -> Path:
    """Where data sets and runs are kept: $IMGCLS_HOME, or `workspace/` beside streamlit_app.py."""
    named = os.environ.get("IMGCLS_HOME")
    return Path(named) if named else Path(__file__).resolve().parents[1] / "workspace"


@dataclass(frozen=True)
class Setting:
    """What a form or `--set` needs to know of one setting."""

    name: str
    group: str  # heading it stands under
    help: str  # one sentence
    default: Any
    kind: type  # bool, int, float, str, or tuple for phases
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def _setting(
    default: Any,
    group: str,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    extra = {"group": group, "help": help, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=extra)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What decides the weights a run ends with. Saved once as config.json, then never changed.

    Raises ConfigError at birth for a value outside its limits or settings that contradict.
    """

    recipe: str = _setting("custom", "Run", "The recipe that these settings started from.")
    study: str = _setting(
        "", "Run", "Name that runs share which belong together: several seeds, or an ablation."
    )
    dataset: str = _setting("digits", "Run", "Name of the data set to learn from.")
    model: str = _setting("small_resnet", "Model", "The network.", choices=MODELS)
    stem: str = _setting(
        "small",
        "Model",
        "First layers of a published network: small fits small images, imagenet is as published.",
        choices=STEMS,
    )
    input_size: int = _setting(
        0,
        "Model",
        "Side in pixels that the network resizes its images to, on the device; 0: as stored.",
        low=0,
        high=512,
    )
    pretrained: bool = _setting(
        False,
        "Model",
        "Start from ImageNet weights, made for normalization imagenet; needs stem imagenet.",
    )
    weights: str = _setting(
        "", "Model", "A local file of pretrained weights (.pth), where none can be downloaded."
    )
    freeze: bool = _setting(
        False, "Model", "Train only the last layer and keep the pretrained backbone as it is."
    )

    epochs: int = _setting(10, "Training", "Passes over the training images.", low=1, high=500)
    steps: int = _setting(
        0,
        "Training",
        "Steps in all, where a time budget fixed them: the last epoch may end early. 0: all whole.",
        low=0,
        high=10**8,
    )
    batch_size: int = _setting(128, "Training", "Images per step.", low=1, high=4096)
    micro_batch: int = _setting(
        0,
        "Training",
        "Images per pass, gradients added up until batch_size is reached; 0 is all at once.",
        low=0,
        high=4096,
    )
    label_smoothing: float = _setting(
        0.0, "Training", "Share of the target spread evenly over all classes.", low=0.0, high=0.5
    )
    hard_share: float = _setting(
        1.0,
        "Training",
        "Share of the images, the hardest, that late epochs take again and again; 1 takes all.",
        low=0.05,
        high=1.0,
    )
    hard_from: float = _setting(
        0.5,
        "Training",
        "Share of the steps after which epochs take only the hardest images.",
        low=0.0,
        high=1.0,
    )
    class_weights: bool = _setting(
        False, "Training", "Weigh classes in the loss by one over their share of the images."
    )
    clip_norm: float = _setting(
        0.0,
        "Training",
        "Scale down gradients that are longer than this; 0 never does.",
        low=0.0,
        high=1000.0,
    )
    ema: float = _setting(
        0.0,
        "Training",
        "Share that a moving average of the weights keeps a step; it becomes the model. 0: off.",
        low=0.0,
        high=0.99999,
    )
    early_stopping: int = _setting(
        0,
        "Training",
        "Stop after so many evaluations without a better validation loss; 0 never stops early.",
        low=0,
        high=100,
    )
    seed: int = _setting(
        0, "Training", "Decides initial weights, order and augmentation.", low=0, high=2**31 - 1
    )

    optimizer: str = _setting(
        "sgd", "Optimizer", "How a gradient becomes a step.", choices=OPTIMIZERS
    )
    peak_lr: float = _setting(
        0.1, "Optimizer", "Highest learning rate of the schedule.", low=1e-7, high=10.0
    )
    momentum: float = _setting(
        0.9,
        "Optimizer",
        "Share of the last step that SGD, RMSprop and Muon keep.",
        low=0.0,
        high=0.999,
    )
    nesterov: bool = _setting(
        False, "Optimizer", "Look ahead by the momentum before each SGD step."
    )
    weight_decay: float = _setting(
        0.0,
        "Optimizer",
        "Pull on the weights towards zero: L2 for SGD, Adam and RMSprop, else decoupled.",
        low=0.0,
        high=1.0,
    )
    schedule: str = _setting(
        "constant", "Schedule", "How the learning rate moves.", choices=SCHEDULES
    )
    step_epochs: int = _setting(
        10, "Schedule", "Epochs between two cuts of schedule step.", low=1, high=500
    )
    gamma: float = _setting(
        0.1, "Schedule", "Factor of each cut of schedules step and plateau.", low=0.01, high=0.99
    )
    patience: int = _setting(
        3, "Schedule", "Evaluations without progress before schedule plateau cuts.", low=0, high=100
    )
    warmup_share: float = _setting(
        0.25,
        "Schedule",
        "Share of the steps in which one-cycle rises to its peak.",
        low=0.0,
        high=0.9,
    )
    phases: Phases = _setting(  # noqa: RUF009  # a field, as the others; a tuple never changes
        (),
        "Schedule",
        "For schedule phases: pairs of epochs and learning rate, as 10x0.05,8x0.005.",
    )

    flip: bool = _setting(False, "Augmentation", "Mirror half of the images left to right.")
    alternating_flip: bool = _setting(
        False, "Augmentation", "With flip: mirror each image in every second epoch, not by chance."
    )
    mirror_pairs: bool = _setting(
        False,
        "Augmentation",
        "With flip, of speed_net: learn filters in pairs, one the mirror image of the other.",
    )
    crop_pad: int = _setting(
        0, "Augmentation", "Shift by up to so many pixels, borders reflected.", low=0, high=32
    )
    rotation: float = _setting(
        0.0, "Augmentation", "Rotate by up to so many degrees.", low=0.0, high=180.0
    )
    color_jitter: float = _setting(
        0.0,
        "Augmentation",
        "Change brightness, contrast and saturation by up to this share.",
        low=0.0,
        high=1.0,
    )
    noise: float = _setting(
        0.0,
        "Augmentation",
        "Standard deviation of added Gaussian noise; pixels range 0 to 1.",
        low=0.0,
        high=0.5,
    )
    cutout: int = _setting(
        0, "Augmentation", "Side of a square blanked at random, in pixels.", low=0, high=128
    )

    start_size: int = _setting(
        0,
        "Augmentation",
        "Side of the images in the first steps, to save time; 0 is full size from the start.",
        low=0,
        high=512,
    )
    full_size_from: float = _setting(
        0.7,
        "Augmentation",
        "Share of the steps in which images grow from start_size to their full size.",
        low=0.0,
        high=1.0,
    )

    normalization: str = _setting(
        "half",
        "Data",
        "none: 0..1, half: -1..1; dataset and imagenet use the mean and sd of those images.",
        choices=NORMALIZATIONS,
    )
    validation_share: float = _setting(
        0.1,
        "Data",
        "Share of the training images held out, stratified by class, for validation.",
        low=0.01,
        high=0.5,
    )
    split_seed: int = _setting(
        0,
        "Data",
        "Decides which images are held out; equal seeds compare on equal images.",
        low=0,
        high=2**31 - 1,
    )
    train_on: str = _setting(
        "train",
        "Data",
        "train+validation trains on all but test, for a recipe already chosen.",
        choices=TRAIN_ON,
    )
    eval_every: int = _setting(1, "Data", "Epochs between two validations.", low=1, high=500)

    device: str = _setting("auto", "Machine", "Where to compute.", choices=DEVICES)
    precision: str = _setting(
        "auto", "Machine", "Number format; auto measures which is faster here.", choices=PRECISIONS
    )
    compile: str = _setting(
        "none",
        "Machine",
        "torch.compile: slower on the CPUs that were measured; cuda-graphs needs CUDA.",
        choices=COMPILE,
    )
    tensorboard: bool = _setting(
        False, "Machine", "Also write event files for TensorBoard into the run's folder."
    )
    processes: int = _setting(
        1,
        "Machine",
        "Processes that train together, each on its share of every batch: one a GPU.",
        low=1,
        high=64,
    )
    threads: int = _setting(
        0,
        "Machine",
        "CPU threads; 0 measures whether one or all cores are faster.",
        low=0,
        high=256,
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, _checked(setting, getattr(self, setting.name)))
        _check_together(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return dataclasses.asdict(self)

    def total_steps(self, steps_per_epoch: int) -> int:
        """Steps of a whole run: those that a time budget fixed, or those of whole epochs."""
        return self.steps or self.epochs * steps_per_epoch

    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults."""
        return {n: v for n, v in self.to_dict().items() if v != SETTINGS[n].default}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """The config of these values; raises ConfigError for a name that does not exist."""
        for name in values:
            if name not in SETTINGS:
                raise ConfigError(
                    f"No setting named {name!r}. Choose one of: {', '.join(SETTINGS)}."
                )
        return cls(**values)

    def replace(self, **values: Any) -> "TrainConfig":
        """A copy with some settings changed, checked again."""
        return self.from_dict({**self.to_dict(), **values})


SETTINGS: dict[str, Setting] = {
    f.name: Setting(
        name=f.name,
        default=f.default,
        kind=tuple if f.name == "phases" else get_type_hints(TrainConfig)[f.name],
        **f.metadata,
    )
    for f in fields(TrainConfig)
}


def parse(name: str, text: str) -> Any:
    """The value that `--set name=text` means; raises ConfigError where it is none."""
    if name not in SETTINGS:
        raise ConfigError(f"No setting named {name!r}. Choose one of: {', '.join(SETTINGS)}.")
    setting = SETTINGS[name]
    if setting.kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{name} must be true or false, got {text!r}.")
        return text.lower() == "true"
    if setting.kind is tuple:
        return parse_phases(text)
    if setting.kind is str:
        return text
    try:
        return setting.kind(text)
    except ValueError:
        noun = "a whole number" if setting.kind is int else "a number"
        raise ConfigError(f"{name} must be {noun}, got {text!r}.") from None


def parse_phases(text: str) -> Phases:
    """`10x0.05,8x0.005` as ((10, 0.05), (8, 0.005)); raises ConfigError for anything else."""
    try:
        pairs = (part.strip().split("x") for part in text.split(",") if part.strip())
        return tuple((int(epochs), float(lr)) for epochs, lr in pairs)
    except ValueError:
        raise ConfigError(
            f"phases must look like 10x0.05,8x0.005 (epochs x learning rate), got {text!r}."
        ) from None


def format_value(value: Any) -> str:
    """A setting's value as `--set` takes it; the inverse of `parse`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(f"{epochs}x{lr:g}" for epochs, lr in value)
    return str(value)


def _checked(setting: Setting, value: Any) -> Any:
    name, kind = setting.name, setting.kind
    if kind is tuple:
        return _checked_phases(value)
    if kind is float and type(value) is int and abs(value) < 1e300:
        value = float(value)
    if type(value) is not kind:  # not isinstance: True is no number of epochs
        noun = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
        raise ConfigError(f"{name} must be {noun}, got {value!r}.")
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{name} must be one of {', '.join(setting.choices)}, got {value!r}.")
    if isinstance(value, str) and len(value) > 500:
        raise ConfigError(f"{name} must be at most 500 characters, got {len(value)}.")
    if setting.low is not None and setting.high is not None:
        _check_range(name, value, setting.low, setting.high)
    return value


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is neither
        raise ConfigError(f"{name} must be {low:g} to {high:g}, got {_short(value)}.")


def _short(value: int | float) -> str:
    """A number for a sentence, also one of four hundred digits."""
    plain = isinstance(value, float) or abs(value) < 1e300  # else it does not fit a float
    return f"{value:g}" if plain else f"{str(value)[:12]}…"


def _checked_phases(value: Any) -> Phases:
    try:
        phases = tuple((epochs, float(rate)) for epochs, rate in value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(
            f"phases must be pairs of epochs and learning rate, got {value!r}."
        ) from None
    for epochs, rate in phases:
        if type(epochs) is not int or not 1 <= epochs <= 500 or not 1e-7 <= rate <= 10:
            raise ConfigError(
                f"Each phase must be 1 to 500 epochs at 1e-07 to 10, got {epochs!r} at {rate:g}."
            )
    return phases


def least_side(model: str, stem: str) -> int:
    """Pixels a side of the smallest image that a network takes, untrained."""
    small, as_published = LEAST_SIDE.get(model, (1, 1))
    return small if stem == "small" else as_published


def check_size(config: TrainConfig, size: int) -> None:
    """Raise ConfigError where images of size×size pixels, or those of the start, are too small.

    Not a part of the config's own checks: runs that were stored before still have to be told of.
    """
    least, side = least_side(config.model, config.stem), config.input_size or size
    stem = f" with stem {config.stem}" if config.model in PUBLISHED else ""
    needs = f"{config.model}{stem} needs images of at least {least}×{least} pixels"
    if side < least:
        too = " and start_size to 0" if config.start_size else ""  # they exclude each other
        raise ConfigError(f"{needs}, these have {side}×{side}: set input_size to {least}{too}.")
    if 0 < config.start_size < least:
        raise ConfigError(f"{needs}: set start_size to {least} or more, not {config.start_size}.")


def _check_together(config: TrainConfig) -> None:
    if config.schedule == "phases":
        total = sum(epochs for epochs, _ in config.phases)
        if total != config.epochs:
            raise ConfigError(
                f"phases must add up to epochs: they hold {total}, epochs is {config.epochs}."
            )
    if config.processes > 1 and config.batch_size < 2 * config.processes:
        raise ConfigError(
            f"{config.processes} processes need a batch_size of at least {2 * config.processes}, "
            f"two images each; got {config.batch_size}."
        )
    rates = [rate for _, rate in config.phases]
    if config.schedule == "phases" and config.peak_lr != max(rates):
        raise ConfigError(
            f"With schedule phases the rates stand in phases: set peak_lr to their highest, "
            f"{max(rates):g}, or change phases; got {config.peak_lr:g}."
        )
    if config.model in AS_PUBLISHED_ONLY and config.stem != "imagenet":
        raise ConfigError(
            f"{config.model} needs stem imagenet, with input_size where the images are small: "
            f"no form of it for small images is known."
        )
    if config.pretrained and config.model not in PUBLISHED:
        raise ConfigError(
            f"{config.model} has no pretrained weights. Choose one of: {', '.join(PUBLISHED)}."
        )
    if config.pretrained and config.stem != "imagenet":
        raise ConfigError(
            "pretrained needs stem imagenet: published weights fit no other first layer."
        )
    if config.freeze and not config.pretrained:
        raise ConfigError("freeze needs pretrained: a random backbone that never learns is no use.")
    if config.weights and not config.pretrained:
        raise ConfigError(
            "weights names a file of pretrained weights: set pretrained to true to use it."
        )
    if config.input_size and config.start_size:
        raise ConfigError(
            "input_size and start_size exclude each other: the network would enlarge again what "
            "training shrank. Set one of them to 0."
        )
    if config.start_size and config.model in OF_ONE_SIZE:
        raise ConfigError(
            f"{config.model} takes images of one size only: set start_size to 0, not "
            f"{config.start_size}."
        )
    if config.micro_batch > config.batch_size:
        raise ConfigError(
            f"micro_batch must be at most batch_size, {config.batch_size}; got "
            f"{config.micro_batch}."
        )
    if config.hard_share < 1 and config.processes > 1:
        raise ConfigError("hard_share below 1 needs processes 1: each would know but its share.")
    if config.compile == "cuda-graphs" and config.device not in ("auto", "cuda"):
        raise ConfigError(f"cuda-graphs needs device cuda, got {config.device}.")
    if config.nesterov and (config.optimizer != "sgd" or config.momentum == 0):
        raise ConfigError("nesterov needs optimizer sgd with momentum above 0.")
    if config.train_on == "train+validation" and (
        config.early_stopping or config.schedule == "plateau"
    ):
        raise ConfigError(
            "train+validation leaves nothing to validate on: turn off early_stopping and plateau."
        )


def dumps(values: Any) -> str:
    """JSON that every parser takes: NaN and infinity become null."""
    return json.dumps(_finite(values), allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
