"""Where in a picture a model finds its answer, by three methods that share no assumption.

Captum computes them: Grad-CAM (Selvaraju and others 2016, arXiv:1610.02391), integrated gradients
(Sundararajan, Taly and Yan 2017, arXiv:1703.01365) and occlusion (Zeiler and Fergus 2013,
arXiv:1311.2901). None proves why a model says what it says: where they agree, look there first.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgcls import runs
from imgcls.evaluate import predictions

if TYPE_CHECKING:
    from torch import Tensor, nn

GRAD_CAM, GRADIENTS, OCCLUSION = "Grad-CAM", "Integrated gradients", "Occlusion"
PATH_STEPS = 32  # of the integral from the mean colour to the picture
WINDOW, STRIDE = 0.2, 0.0625  # side of the square that is blanked and its steps, of the picture's
FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # colours of what speaks for a class, and against
STRENGTH = 0.85  # of the colour where a pixel matters most
AT_ONCE = 64  # pictures passed through the model together


def prepare() -> None:
    """Import what `maps` needs: seconds that nobody then waits for."""
    import captum.attr  # noqa: F401


def maps(run_id: str, image: NDArray[np.uint8], target: int) -> dict[str, NDArray[np.float32]]:
    """By method, how much each pixel of (H, W, 3) speaks for class `target`: (H, W), -1..1.

    Scaled so that the largest magnitude is 1; negative speaks against. Grad-CAM knows no against,
    and is left out where `last_map` finds none. Raises what `predictions.judge` does.
    """
    import torch

    judge = predictions.judge(runs.get(run_id))
    for layer in judge.model.modules():
        if getattr(layer, "inplace", False):  # would overwrite what the methods look at
            setattr(layer, "inplace", False)  # noqa: B010  # to mypy a module has no such thing
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(judge.device)
    pixels = pixels.permute(2, 0, 1)[None].float() / 255
    mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (judge.mean, judge.std))
    picture = (pixels - mean) / std  # zero is the data set's mean colour
    found = {
        GRAD_CAM: _grad_cam(judge.model, picture, target),
        GRADIENTS: _gradients(judge.model, picture, target),
        OCCLUSION: _occlusion(judge.model, picture, target),
    }
    return {name: _scaled(one) for name, one in found.items() if one is not None}


def _grad_cam(model: "nn.Module", picture: "Tensor", target: int) -> "Tensor | None":
    from captum.attr import LayerAttribution, LayerGradCam

    layer = last_map(model, picture)
    if layer is None:
        return None
    coarse = LayerGradCam(model, layer).attribute(picture, target, relu_attributions=True)
    fine: Tensor = LayerAttribution.interpolate(coarse, picture.shape[-2:], "bilinear").sum((0, 1))
    return fine


def last_map(model: "nn.Module", picture: "Tensor") -> "nn.Module | None":
    """The last part of a network that still sees where things are, whole branches together.

    By running order, not by that of definition: of parts that end with a map (1, C, h, w) of more
    than one pixel, the one that ends last. None where none follows a convolution, or where
    attention mixes places before: then no map tells where.
    """
    import torch
    from torch import nn

    if any(isinstance(layer, nn.MultiheadAttention) for layer in model.modules()):
        return None
    if not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        return None
    ended: list[nn.Module] = []

    def note(layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if layer is model or not isinstance(output, torch.Tensor) or output.ndim != 4:
            return
        seen = inputs[0].shape[-1] if isinstance(inputs[0], torch.Tensor) else 0
        if min(output.shape[-2:]) > 1 and seen >= output.shape[-1]:  # repeated is not seen
            ended.append(layer)

    hooks = [layer.register_forward_hook(note) for layer in model.modules()]
    try:
        with torch.no_grad():
            model(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return ended[-1] if ended else None


def _gradients(model: "nn.Module", picture: "Tensor", target: int) -> "Tensor":
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(model)
    found: Tensor = method.attribute(
        picture, target=target, n_steps=PATH_STEPS, internal_batch_size=AT_ONCE
    ).sum((0, 1))
    return found


def _occlusion(model: "nn.Module", picture: "Tensor", target: int) -> "Tensor":
    from captum.attr import Occlusion

    side = picture.shape[-1]
    window, stride = max(2, round(WINDOW * side)), max(1, round(STRIDE * side))
    found: Tensor = (
        Occlusion(model)
        .attribute(
            picture,
            sliding_window_shapes=(3, window, window),
            strides=(3, stride, stride),
            target=target,
            perturbations_per_eval=AT_ONCE,
        )
        .sum((0, 1))
    )
    return found


def _scaled(found: "Tensor") -> NDArray[np.float32]:
    """With the largest magnitude 1; all zero where nothing speaks for or against."""
    values: NDArray[np.float32] = found.detach().float().cpu().numpy()
    return values / max(float(np.abs(values).max()), 1e-12)


def over(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A grey (H, W, 3) picture, coloured where (H, W) heat in -1..1 is strong: for, or against."""
    grey = image.mean(2, keepdims=True).repeat(3, 2)
    color = np.where(heat[..., None] > 0, FOR, AGAINST)
    strength = STRENGTH * np.abs(heat[..., None])
    mixed: NDArray[np.uint8] = (grey * (1 - strength) + color * strength).round().astype(np.uint8)
    return mixed
