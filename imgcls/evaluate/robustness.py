"""How much accuracy is left when images get worse: eight corruptions at five severities.

Severities are those of CIFAR-10-C where that has them: Hendrycks and Dietterich 2019, "Benchmarking
Neural Network Robustness to Common Corruptions and Perturbations", arXiv:1903.12261, and their
code; blur, rotation and translation are steps of ours. `load` needs no torch, `compute` does.
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls import runs
from imgcls.evaluate import predictions, tallies
from imgcls.evaluate.predictions import Progress
from imgcls.evaluate.tallies import Tally
from imgcls.runs import Run

if TYPE_CHECKING:
    from torch import Generator, Tensor

FORMAT = 1  # of the file; raised when what is stored changes its meaning
# What each of the five severities means. Lengths are shares of an image's side.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # standard deviation, of pixels 0..1
    "blur": (0.015, 0.02, 0.03, 0.04, 0.05),  # standard deviation
    "JPEG": (80, 65, 58, 50, 40),  # quality
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value of hue, saturation, value
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # factor on the distance from a channel's mean
    "rotation": (5, 10, 15, 22.5, 30),  # degrees, either way
    "translation": (0.0625, 0.125, 0.1875, 0.25, 0.3125),  # along both axes, either way
    "pixelation": (0.95, 0.9, 0.85, 0.75, 0.65),  # side it is shrunk to and back from
}
LEVELS = 5
BLOCK = 250  # images that draw their random changes together, whatever the model's batches


def load(run: Run, split: str) -> Tally | None:
    """What was computed, by (SEVERITIES, LEVELS); None where it is of another model or data set."""
    return tallies.read(run.robustness_path(split), lambda: _facts(run, split))


def compute(run_id: str, split: str, progress: Progress | None = None) -> None:
    """Judge a run's model on every corruption of a split's images, and store how many are right.

    What is random about a corruption depends on its name, its severity and the image's place
    alone, so two runs meet the same images. Raises what `predictions.compute` does.
    """
    import torch

    run = runs.get(run_id)
    images, labels, indices = predictions.judged_images(run, split)
    facts = _facts(run, split)  # before the weights are read: see `predictions.compute`
    judge = predictions.judge(run)
    clean, right = 0, np.zeros((len(SEVERITIES), LEVELS), np.int64)
    done, total = 0, len(indices) * (1 + right.size)
    with torch.inference_mode():
        for start in range(0, len(indices), BLOCK):
            rows = indices[start : start + BLOCK]
            block = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).to(judge.device)
            wanted = torch.from_numpy(labels[rows]).to(judge.device)
            clean += _right(judge, block, wanted)
            done += len(rows)
            for i, name in enumerate(SEVERITIES):
                for level in range(LEVELS):
                    worse = corrupted(block, name, level, _generator(name, level, start, block))
                    right[i, level] += _right(judge, worse, wanted)
                    done += len(rows)
                if progress:
                    progress(done, total, "images judged")

    tally = Tally(len(indices), clean, right)
    tallies.save(lambda write: run.save_robustness(split, write), tally, facts, run.id)


def series(
    run_id: str, image: NDArray[np.uint8], name: str
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """One (H, W, 3) image as it is and at each severity, (1 + LEVELS, H, W, 3), and the logits."""
    import torch

    judge = predictions.judge(runs.get(run_id))
    with torch.inference_mode():
        block = (
            torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(judge.device)
        )
        versions = [block] + [
            corrupted(block, name, level, _generator(name, level, 0, block))
            for level in range(LEVELS)
        ]
        together = torch.cat(versions).permute(0, 2, 3, 1)
        logits = judge.answer(together)
    return together.cpu().numpy(), logits.cpu().numpy()


def corrupted(images: "Tensor", name: str, level: int, generator: "Generator") -> "Tensor":
    """(N, 3, H, W) uint8 under one corruption at severity `level`, 0 to LEVELS - 1: the same."""
    return _CORRUPTIONS[name](images, SEVERITIES[name][level], generator)


def _noise(images: "Tensor", sigma: float, generator: "Generator") -> "Tensor":
    import torch

    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return _bytes(images / 255 + sigma * noise)


def _blur(images: "Tensor", share: float, _: "Generator") -> "Tensor":
    from torchvision.transforms.v2 import functional as F

    sigma = share * images.shape[-1]
    size = 2 * max(1, round(3 * sigma)) + 1
    blurred: Tensor = F.gaussian_blur(images, [size, size], [sigma, sigma])
    return blurred


def _jpeg(images: "Tensor", quality: float, _: "Generator") -> "Tensor":
    import torch

    decoded = []
    for pixels in images.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images.device)


def _brightness(images: "Tensor", more: float, _: "Generator") -> "Tensor":
    # Raising the value of HSV by v scales all channels until the largest has grown by v.
    pixels = images / 255
    value = pixels.amax(1, keepdim=True)
    scaled = pixels * ((value + more).clamp(max=1) / value.clamp(min=1e-6))
    return _bytes(scaled.where(value > 0, (value + more).clamp(max=1)))  # black has no hue


def _contrast(images: "Tensor", factor: float, _: "Generator") -> "Tensor":
    pixels = images / 255
    means = pixels.mean((2, 3), keepdim=True)
    return _bytes(means + factor * (pixels - means))


def _rotation(images: "Tensor", degrees: float, generator: "Generator") -> "Tensor":
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    turned: Tensor = _either_way(
        images,
        generator,
        lambda some, sign: F.rotate(some, sign * degrees, InterpolationMode.BILINEAR),
    )
    return turned


def _translation(images: "Tensor", share: float, generator: "Generator") -> "Tensor":
    from torchvision.transforms.v2 import functional as F

    pixels = round(share * images.shape[-1])
    return _either_way(
        images, generator, lambda some, sign: F.affine(some, 0.0, [sign * pixels] * 2, 1.0, [0.0])
    )


def _pixelation(images: "Tensor", share: float, _: "Generator") -> "Tensor":
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    height, width = images.shape[-2:]
    small = [max(1, int(height * share)), max(1, int(width * share))]
    shrunk = F.resize(images, small, InterpolationMode.BILINEAR, antialias=True)
    back: Tensor = F.resize(shrunk, [height, width], InterpolationMode.NEAREST)
    return back


_CORRUPTIONS: "dict[str, Callable[[Tensor, float, Generator], Tensor]]" = {
    "noise": _noise,
    "blur": _blur,
    "JPEG": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "rotation": _rotation,
    "translation": _translation,
    "pixelation": _pixelation,
}


def _either_way(
    images: "Tensor", generator: "Generator", change: "Callable[[Tensor, int], Tensor]"
) -> "Tensor":
    """Half of the images, drawn, are changed with sign 1 and the others with -1."""
    import torch

    forward = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(forward.view(-1, 1, 1, 1), change(images, 1), change(images, -1))


def _bytes(pixels: "Tensor") -> "Tensor":
    return pixels.clamp(0, 1).mul(255).round().byte()


def _right(judge: predictions.Judge, images: "Tensor", labels: "Tensor") -> int:
    answers = judge.answer(images.permute(0, 2, 3, 1)).argmax(1)
    return int((answers == labels).sum())


def _generator(name: str, level: int, start: int, images: "Tensor") -> "Generator":
    import torch

    seed = 1000 * start + 10 * list(SEVERITIES).index(name) + level
    return torch.Generator(images.device).manual_seed(seed)


def _facts(run: Run, split: str) -> dict[str, object]:
    severities = {name: list(levels) for name, levels in SEVERITIES.items()}
    return {**predictions.facts(run, split), "robustness": FORMAT, "severities": severities}
