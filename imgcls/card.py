"""What travels inside a model file, so that it can be used without the run that made it.

Read from the file's header alone: this module does not import torch.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from imgcls import config
from imgcls.config import TrainConfig
from imgcls.errors import ModelError

FORMAT = "imgcls 1"  # of the metadata; raised when an older reader could misread it


@dataclass(frozen=True)
class Card:
    """Everything but the weights that a prediction needs, and where it all came from."""

    architecture: dict[str, Any]  # settings that decide what the network computes
    classes: tuple[str, ...]  # in the order of the logits
    size: int  # pixels a side of the square input
    fit: str  # how a picture of another shape becomes square; see preprocess.to_pixels
    mean: tuple[float, float, float]  # subtracted from pixels 0..1 a channel
    std: tuple[float, float, float]  # divided by afterwards
    run: str
    recipe: str
    dataset: str
    fingerprint: str  # of that data set
    epoch: int  # whose weights these are
    val_accuracy: float | None  # 0..1

    def to_metadata(self) -> dict[str, str]:
        """As safetensors keeps it: text by name."""
        return {"format": FORMAT, "card": config.dumps(asdict(self))}


def architecture(settings: TrainConfig) -> dict[str, Any]:
    """The settings of a run that decide what its network computes from weights and an image."""
    return {name: getattr(settings, name) for name in ("model", "stem", "input_size")}


def read(path: Path) -> Card:
    """The card of a model file; raises ModelError where it is missing, damaged or not ours."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ModelError(
            f"{path.parent.name} has no {path.name} yet: no epoch of it has been validated. Wait "
            "for its first, or resume it if it has ended."
        ) from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is damaged ({error}): train again.") from None
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path.name} was not written by this version of imgcls.")
    values = json.loads(metadata["card"])
    for name in ("classes", "mean", "std"):
        values[name] = tuple(values[name])
    return Card(**values)
