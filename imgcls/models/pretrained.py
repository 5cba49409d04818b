"""ImageNet weights for published networks, from torchvision's server or a local file."""

from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

from imgcls.errors import ModelError
from imgcls.models.zoo import NETWORKS


def fill(model: nn.Module, name: str, local: str) -> None:
    """Load ImageNet weights into all of NETWORKS[name] but its head.

    local: a file of them; empty to download torchvision's. Raises ModelError where they cannot be
    had or do not fit.
    """
    network = NETWORKS[name]
    left_out = (f"{network.head}.", *network.unused)
    state = _published_state(network.weights, local)
    state = {key: value for key, value in state.items() if not key.startswith(left_out)}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"The weights do not fit this network: {reason}") from None
    wrong = [*unexpected, *(key for key in missing if not key.startswith(left_out))]
    if wrong:
        raise ModelError(
            f"The weights do not fit this network: {len(wrong)} names differ, such as {wrong[0]}."
        )


def freeze_backbone(model: nn.Module, name: str) -> None:
    """Leave nothing but the head of NETWORKS[name] to train."""
    head = f"{NETWORKS[name].head}."
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key.startswith(head))


def _published_state(weights: Any, local: str) -> dict[str, Any]:
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
        downloaded: dict[str, Any] = weights.get_state_dict(check_hash=True, progress=False)
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "reason", error)  # what URLError is about
        reason = getattr(cause, "strerror", None) or cause
        raise ModelError(
            f"The pretrained weights could not be downloaded ({reason}): go online and retry, or "
            f"set weights to a local copy of {weights.url.rsplit('/', 1)[-1]}."
        ) from None
    return downloaded
