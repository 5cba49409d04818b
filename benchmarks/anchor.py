"""The anchor: a plain port of the 94 % recipe of cifar10-airbench, written from its description.

Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, sections 3 and 4,
with Muon on the convolutions as its repository has had it since October 2024. Eager, batches of
2000 whole, in bf16 or, on processors that are slow at it, fp32. It shares nothing with imgcls' own
loop, so that it stays a fair opponent.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

EPOCHS = 8
BATCH = 2000  # images a step; what is left of an epoch is dropped
WIDTHS = (64, 256, 256)
PATCH = 2  # side of what the first layer sees
PAD = 2  # pixels that an image may shift by
LOOK_IMAGES = 5000  # about, that the first layer's filters are made from
WHITEN_EPOCHS = 3  # in which the first layer's biases learn
FILTER_LR, FILTER_MOMENTUM = 0.24, 0.6
BIAS_LR, HEAD_LR, MOMENTUM = 0.053, 0.67, 0.85
WEIGHT_DECAY = 2e-6 * BATCH  # of one step, whatever its rate
SMOOTHING = 0.2
VIEWS = ("one view", "six views")


class AnchorNet(nn.Module):
    """Whitened 2×2 patches, three blocks of two convolutions, and a head without bias."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        channels = 2 * 3 * PATCH**2
        self.whiten = nn.Conv2d(3, channels, PATCH)
        self.whiten.weight.requires_grad_(False)
        blocks = []
        for width in WIDTHS:
            blocks.append(_block(channels, width))
            channels = width
        self.blocks = nn.Sequential(*blocks, nn.MaxPool2d(3), nn.Flatten())
        self.head = nn.Linear(channels, classes, bias=False)
        self.head.weight.data /= self.head.weight.data.std()

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) normalised images to (N, classes) logits."""
        features = self.blocks(F.gelu(self.whiten(images)))
        logits: Tensor = self.head(features) / features.shape[1]
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, outputs),
        nn.MaxPool2d(2),
        _norm(outputs),
        nn.GELU(),
        _convolution(outputs, outputs),
        _norm(outputs),
        nn.GELU(),
    )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight.data[:inputs])  # begins by passing its input on
    return layer


def _norm(channels: int) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)  # keeps 0.6 of its statistics
    layer.weight.requires_grad_(False)
    return layer


@torch.no_grad()
def whiten(layer: nn.Conv2d, images: Tensor, epsilon: float = 5e-4) -> None:
    """Set filters to the scaled eigenvectors of the images' patches, and to their negatives."""
    patches = F.unfold(images.float(), PATCH).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + epsilon).sqrt()).T.reshape(-1, 3, PATCH, PATCH)
    layer.weight.copy_(torch.cat((filters, -filters)))


def orthogonalised(
    matrix: Tensor, iterations: int = 3, dtype: torch.dtype = torch.bfloat16
) -> Tensor:
    """About U·Vᵀ of a (rows, columns) matrix, by Newton–Schulz iterations in this format."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(dtype)
    x = x / (x.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(iterations):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    turned: Tensor = x.T if tall else x
    return turned


@torch.no_grad()
def turn(weight: Tensor, momentum: Tensor, lr: float, dtype: torch.dtype) -> None:
    """One step of Muon: filters at norm one on average, then an orthogonal step."""
    gradient = weight.grad
    assert gradient is not None
    momentum.mul_(FILTER_MOMENTUM).add_(gradient)
    ahead = gradient + FILTER_MOMENTUM * momentum
    weight.mul_(len(weight) ** 0.5 / weight.norm())
    weight.sub_(lr * orthogonalised(ahead.flatten(1), dtype=dtype).view_as(weight))


def build(images: Tensor, seed: int, classes: int = 10) -> AnchorNet:
    """The network that has seen some of (N, 3, 32, 32) normalised images, on their device.

    Evenly spread ones: where images come in order of their classes, the first would be one class.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AnchorNet(classes)
    whiten(model.whiten, images[:: max(1, len(images) // LOOK_IMAGES)].cpu())
    model.to(device=images.device).to(memory_format=torch.channels_last)
    return model


def train(
    model: AnchorNet,
    images: Tensor,
    labels: Tensor,
    seed: int,
    epochs: int = EPOCHS,
    dtype: torch.dtype = torch.bfloat16,
) -> Iterator[tuple[int, bool]]:
    """Train in place; yields after each step its images, and whether it ended an epoch.

    images: (N, 3, 32, 32) normalised. dtype: what is multiplied in, bfloat16 or float32.
    Calls `model.train()` as each epoch begins, so that whoever iterates may evaluate between two.
    """
    draw = torch.Generator(images.device).manual_seed(seed)
    half = torch.rand(len(images), generator=draw, device=images.device) < 0.5
    images = torch.where(half.view(-1, 1, 1, 1), images.flip(3), images)
    padded = F.pad(images, (PAD,) * 4, mode="reflect").to(dtype)
    padded = padded.contiguous(memory_format=torch.channels_last)
    a_epoch = len(images) // BATCH
    norms = [p for name, p in model.blocks.named_parameters() if p.ndim == 1 and p.requires_grad]
    filters = [p for p in model.blocks.parameters() if p.ndim == 4]
    momenta = [torch.zeros_like(p) for p in filters]
    assert model.whiten.bias is not None
    slow = torch.optim.SGD(
        [
            {"params": params, "initial": lr, "weight_decay": WEIGHT_DECAY / lr, "until": until}
            for params, lr, until in (
                ([model.whiten.bias], BIAS_LR, min(WHITEN_EPOCHS, epochs)),
                (norms, BIAS_LR, epochs),
                ([model.head.weight], HEAD_LR, epochs),
            )
        ],
        lr=BIAS_LR,
        momentum=MOMENTUM,
        nesterov=True,
    )
    step = 0
    for epoch in range(epochs):
        model.train()
        model.whiten.bias.requires_grad_(epoch < WHITEN_EPOCHS)
        order = torch.randperm(len(images), generator=draw, device=images.device)
        for rows in order[: a_epoch * BATCH].split(BATCH):
            batch = shifted(padded[rows], draw)
            if epoch % 2:  # every image is seen both ways in two epochs: section 3.6
                batch = batch.flip(3)
            with autocast(images.device, dtype):
                logits = model(batch)
                loss = F.cross_entropy(
                    logits, labels[rows], label_smoothing=SMOOTHING, reduction="sum"
                )
            model.zero_grad()
            loss.backward()
            for group in slow.param_groups:
                group["lr"] = group["initial"] * max(0.0, 1 - step / (group["until"] * a_epoch))
            slow.step()
            lr = FILTER_LR * (1 - step / (epochs * a_epoch))
            for weight, momentum in zip(filters, momenta, strict=True):
                turn(weight, momentum, lr, dtype)
            step += 1
            yield len(rows), step % a_epoch == 0


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Convolutions and matrix products in bfloat16, or everything in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def quickest(model: AnchorNet, images: Tensor) -> torch.dtype:
    """bfloat16, but float32 on a CPU that is quicker at it: of three passes each, in turns."""
    if images.device.type != "cpu":
        return torch.bfloat16
    trial, seconds = copy.deepcopy(model), {torch.bfloat16: math.inf, torch.float32: math.inf}
    for _ in range(3):
        for dtype in seconds:
            start = time.perf_counter()
            with autocast(images.device, dtype):
                trial(images).float().square().sum().backward()
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return min(seconds, key=lambda dtype: seconds[dtype])


def shifted(padded: Tensor, draw: torch.Generator) -> Tensor:
    """A cut of its own from each of (N, C, H + 2·PAD, W + 2·PAD): (N, C, H, W)."""
    height, width = padded.shape[2] - 2 * PAD, padded.shape[3] - 2 * PAD
    corners = torch.randint(0, 2 * PAD + 1, (len(padded), 2), generator=draw, device=padded.device)
    cut = torch.empty_like(padded[:, :, :height, :width])
    for y in range(2 * PAD + 1):
        for x in range(2 * PAD + 1):
            here = (corners[:, 0] == y) & (corners[:, 1] == x)
            cut[here] = padded[here, :, y : y + height, x : x + width]
    return cut


def six_views(forward: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of one view, and the mean over six: a half unmoved, a quarter each diagonal shift.

    Each of the three is seen as it is and mirrored. Source: arXiv:2404.00498, section 3.5.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (1,) * 4, mode="reflect")
    one = forward(images)
    mean = 0.25 * (one + forward(images.flip(3)))
    for corner in (0, 2):
        view = padded[:, :, corner : corner + height, corner : corner + width]
        mean = mean + 0.125 * (forward(view) + forward(view.flip(3)))
    return one, mean


@torch.inference_mode()
def accuracies(
    forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, batch: int = 500
) -> dict[str, float]:
    """Accuracy 0..1 on (N, 3, 32, 32) normalised images by view, each of VIEWS."""
    right = [0, 0]
    for rows in torch.arange(len(images), device=images.device).split(batch):
        for i, logits in enumerate(six_views(forward, images[rows])):
            right[i] += int((logits.argmax(1) == labels[rows]).sum())
    return {view: count / len(images) for view, count in zip(VIEWS, right, strict=True)}
