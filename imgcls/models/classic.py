"""Published networks from torchvision, as they are or with a stem fitted to small images."""

from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
import torchvision

from imgcls.config import TrainConfig
from imgcls.errors import ModelError


def resnet18(settings: TrainConfig, classes: int, size: int) -> nn.Module:
    """ResNet-18 (He et al. 2015, arXiv:1512.03385).

    stem imagenet: torchvision's network, only the head replaced. stem small: a first convolution of
    3×3 with stride 1 and no pooling, as section 4.2 uses for CIFAR-10.
    """
    del size  # global pooling takes any
    model: nn.Module = torchvision.models.resnet18(weights=None)
    if settings.stem == "small":
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    model.fc = nn.Linear(512, classes)
    return model


def fill(model: nn.Module, local: str) -> None:
    """Load ImageNet weights into everything but the head `fc`, from `local` or the network.

    Raises ModelError where they cannot be had or do not fit.
    """
    state = _published_state(torchvision.models.ResNet18_Weights.IMAGENET1K_V1, local)
    state = {name: value for name, value in state.items() if not name.startswith("fc.")}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"The weights do not fit this network: {reason}") from None
    wrong = [*unexpected, *(name for name in missing if not name.startswith("fc."))]
    if wrong:
        raise ModelError(
            f"The weights do not fit this network: {len(wrong)} names differ, such as {wrong[0]}."
        )


def freeze_backbone(model: nn.Module) -> None:
    """Leave nothing but the head `fc` to train."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))


def _published_state(published: Any, local: str) -> dict[str, Any]:
    if local:
        try:
            state: dict[str, Any] = torch.load(local, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ModelError(f"There is no weights file {local}.") from None
        except Exception as error:  # torch names ten classes of damage, none of them its own
            raise ModelError(
                f"{Path(local).name} holds no plain weights ({type(error).__name__}): "
                "use the .pth file that torchvision publishes."
            ) from None
        return state
    try:
        downloaded: dict[str, Any] = published.get_state_dict(check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "reason", error)  # what URLError is about
        reason = getattr(cause, "strerror", None) or cause
        raise ModelError(
            f"The pretrained weights could not be downloaded ({reason}): go online and retry, or "
            f"set weights to a local copy of {published.url.rsplit('/', 1)[-1]}."
        ) from None
    return downloaded
