"""How much accuracy is left when each pixel may be changed a little, to do the most harm.

FGSM: Goodfellow, Shlens and Szegedy 2014, arXiv:1412.6572, section 4. PGD: Madry and others 2017,
arXiv:1706.06083, section 2.1. Both know the model's gradients (white box); what survives them is an
upper bound on what survives any attack. `load` needs no torch, `compute` does.
"""

from typing import TYPE_CHECKING

import numpy as np

from imgcls import runs
from imgcls.evaluate import predictions, tallies
from imgcls.evaluate.predictions import Judge, Progress
from imgcls.evaluate.tallies import Tally
from imgcls.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1  # of the file; raised when what is stored changes its meaning
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)  # largest change of a channel of a pixel, of 0..255
IMAGES = 1000  # at most, drawn at random: each is passed through the model a hundred times
STEPS = 10  # of PGD
STRIDE = 2.5  # a step of PGD is so many epsilons, divided by STEPS: it can reach the border
ATTACKS = ("FGSM", "PGD")


def load(run: Run, split: str) -> Tally | None:
    """What was computed, by (ATTACKS, EPSILONS); None where it is of another model or data set."""
    return tallies.read(run.adversarial_path(split), lambda: _facts(run, split))


def compute(run_id: str, split: str, progress: Progress | None = None) -> None:
    """Attack a run's model on up to IMAGES of a split, and store how many it still calls right.

    Raises what `predictions.compute` does.
    """
    import torch

    run = runs.get(run_id)
    images, labels, indices = predictions.judged_images(run, split)
    facts = _facts(run, split)  # before the weights are read: see `predictions.compute`
    judge = predictions.judge(run)
    for parameter in judge.model.parameters():
        parameter.requires_grad_(False)  # only pixels are followed back
    chosen = np.sort(np.random.default_rng(0).permutation(len(indices))[:IMAGES])
    rows = indices[chosen]
    clean, right = 0, np.zeros((len(ATTACKS), len(EPSILONS)), np.int64)
    done, total = 0, len(rows) * right.size
    for start in range(0, len(rows), judge.batch_size):
        some = rows[start : start + judge.batch_size]
        pixels = torch.from_numpy(images[some]).to(judge.device).permute(0, 3, 1, 2).float() / 255
        wanted = torch.from_numpy(labels[some]).to(judge.device)
        clean += _right(judge, pixels, wanted)
        for i, attack in enumerate((fgsm, pgd)):
            for j, epsilon in enumerate(EPSILONS):
                right[i, j] += _right(judge, attack(judge, pixels, wanted, epsilon / 255), wanted)
                done += len(some)
                if progress:
                    progress(done, total, "attacks")

    tally = Tally(len(rows), clean, right)
    tallies.save(lambda write: run.save_adversarial(split, write), tally, facts, run.id)


def fgsm(judge: Judge, pixels: "Tensor", labels: "Tensor", epsilon: float) -> "Tensor":
    """(N, 3, H, W) pixels 0..1, each moved by epsilon in the direction that raises the loss."""
    return (pixels + epsilon * _gradient(judge, pixels, labels).sign()).clamp(0, 1)


def pgd(judge: Judge, pixels: "Tensor", labels: "Tensor", epsilon: float) -> "Tensor":
    """(N, 3, H, W) pixels 0..1 after STEPS small steps of `fgsm`, never further than epsilon.

    Begins at a random place within reach, the same each time.
    """
    import torch

    draw = torch.Generator(pixels.device).manual_seed(0)
    away = torch.rand(pixels.shape, generator=draw, device=pixels.device) * 2 - 1
    moved = (pixels + epsilon * away).clamp(0, 1)
    for _ in range(STEPS):
        step = STRIDE * epsilon / STEPS * _gradient(judge, moved, labels).sign()
        moved = (pixels + (moved + step - pixels).clamp(-epsilon, epsilon)).clamp(0, 1)
    return moved


def _gradient(judge: Judge, pixels: "Tensor", labels: "Tensor") -> "Tensor":
    """Of the summed cross-entropy, with respect to the pixels."""
    import torch
    import torch.nn.functional as F

    with torch.enable_grad():
        pixels = pixels.detach().requires_grad_(True)
        loss = F.cross_entropy(judge.of_pixels(pixels), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
    return gradient


def _right(judge: Judge, pixels: "Tensor", labels: "Tensor") -> int:
    import torch

    with torch.no_grad():
        return int((judge.of_pixels(pixels).argmax(1) == labels).sum())


def _facts(run: Run, split: str) -> dict[str, object]:
    setting = {"epsilons": list(EPSILONS), "images": IMAGES, "steps": STEPS, "stride": STRIDE}
    return {**predictions.facts(run, split), "adversarial": FORMAT, **setting}
