"""The training loop: a generator of events that touches neither file nor screen.

What is random at a step depends on (seed, step) alone, so a run that goes on from a saved `State`
takes the very steps that it would have taken without the break.
"""

import hashlib
import math
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from imgcls import machine, optim
from imgcls.config import TrainConfig
from imgcls.data import augment
from imgcls.data.tensors import Split, normalize, standardize
from imgcls.errors import ImgclsError
from imgcls.events import Epoch, Step, Validating
from imgcls.team import Team

ALONE = Team()
REPORT_SECONDS = 0.5  # between two events; each reads four numbers back from the device
VALIDATION_PIXELS = 2**18  # images a batch times their pixels: 256 images of 32×32


class Diverged(ImgclsError):
    """The loss is no longer a finite number."""


class State:
    """Everything that changes while a run trains: save it, load it, and training goes on exactly.

    model: on the device that computes, in the memory format that it prefers. precision: fp32, bf16
    or fp16. mean, std: a channel, for pixels 0..1.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainConfig,
        precision: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        team: Team = ALONE,
    ) -> None:
        self.model = model
        self.team = team
        self.forward = team.wrap(model)
        self.settings = settings
        self.device = next(model.parameters()).device
        self.precision = precision
        self.optimizer = optim.build(model, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.mean = torch.tensor(mean, device=self.device)
        self.std = torch.tensor(std, device=self.device)
        self.step = 0
        self.epochs = 0  # ended, validation included
        self.seconds = 0.0  # spent training, over all sittings
        self.epoch_sums = torch.zeros(2, device=self.device)  # loss times images, images correct
        self.best_accuracy = -1.0
        self.best_loss = math.inf
        self.without_progress = 0  # evaluations since best_loss
        self.since_cut = 0  # the same, counted anew at each cut of schedule plateau
        self.cuts = 0  # of schedule plateau

    _numbers = (
        "precision",
        "step",
        "epochs",
        "seconds",
        "best_accuracy",
        "best_loss",
        "without_progress",
        "since_cut",
        "cuts",
    )

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, as torch.save takes them and weights_only loads them."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch_sums": self.epoch_sums,
            **{name: getattr(self, name) for name in self._numbers},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.epoch_sums.copy_(saved["epoch_sums"])
        for name in self._numbers:
            setattr(self, name, saved[name])

    def autocast(self) -> torch.autocast:
        """The number format of forward passes."""
        dtype = machine.DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")


def steps_per_epoch(images: int, batch_size: int, processes: int = 1) -> int:
    """Steps that see each image once; a last batch of one, no food for batch norm, is left out."""
    full, rest = divmod(images, batch_size)
    return full + (rest >= 2 * processes or full == 0)


def stopped_early(state: State) -> bool:
    """Whether validation has gone without progress for as long as the settings allow."""
    limit = state.settings.early_stopping
    return limit > 0 and state.without_progress >= limit


def fit(
    state: State, train: Split, validation: Split | None
) -> Iterator[Step | Validating | Epoch]:
    """Train in place from where `state` stands; stop iterating to stop.

    Between two events nothing makes the device wait. Yields Step about twice a second and at each
    epoch's end, then Epoch once `state` holds the epoch's outcome. Raises Diverged when a loss is
    not finite.
    """
    settings = state.settings
    a_epoch = steps_per_epoch(len(train), settings.batch_size, state.team.size)
    while state.epochs < settings.epochs and not stopped_early(state):
        epoch = state.epochs + 1
        if state.step < epoch * a_epoch:  # else the state was saved between last step and here
            yield from _steps(state, train, epoch, a_epoch)
        start = time.perf_counter()
        loss, correct = state.epoch_sums.tolist()
        seen = min(a_epoch * settings.batch_size, len(train))
        val_loss = val_accuracy = None
        due = epoch % settings.eval_every == 0 or epoch == settings.epochs
        if validation is not None and due:
            if state.team.rank == 0:
                val_loss, val_accuracy = yield from validate(state, validation)
            val_loss, val_accuracy = state.team.hear(val_loss or 0.0, val_accuracy or 0.0)
        best = _judge(state, val_loss, val_accuracy, has_validation=validation is not None)
        state.epochs = epoch
        state.epoch_sums.zero_()
        state.seconds += time.perf_counter() - start
        yield Epoch(
            epoch=epoch,
            step=state.step,
            train_loss=loss / seen,
            train_accuracy=correct / seen,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr=state.optimizer.param_groups[0]["lr"],
            best=best,
            seconds=state.seconds,
        )


def _steps(state: State, train: Split, epoch: int, a_epoch: int) -> Iterator[Step]:
    """The rest of an epoch, from the step that `state` stands at."""
    size = state.settings.batch_size
    generator = torch.Generator(state.device).manual_seed(mix("order", state.settings.seed, epoch))
    order = torch.randperm(len(train), generator=generator, device=state.device)
    window, images, since = torch.zeros_like(state.epoch_sums), 0, time.perf_counter()
    count, every = (
        0,
        1,
    )  # steps since the last event; in a team, the leader says when the next is due
    _training_mode(state.model)
    while True:
        position = state.step % a_epoch
        rows = order[position * size : (position + 1) * size]
        mine = state.team.share(rows)
        sums = take_step(
            state, train.images[mine], train.labels[mine], a_epoch, generator, of=len(rows)
        )
        window += sums
        state.epoch_sums += sums
        images += len(rows)
        count += 1
        seconds = time.perf_counter() - since
        due = seconds >= REPORT_SECONDS if state.team.size == 1 else count >= every
        if not due and position + 1 < a_epoch:
            continue
        loss, correct = (window / images).tolist()  # the device catches up here
        seconds = time.perf_counter() - since
        state.seconds += seconds
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is {loss} near step {state.step}: "
                f"lower the learning rate ({state.settings.peak_lr:g} now) and start again."
            )
        yield Step(
            step=state.step,
            epoch=epoch,
            loss=loss,
            accuracy=correct,
            lr=state.optimizer.param_groups[0]["lr"],
            images_per_second=images / seconds,
            memory_mb=machine.memory_mb(state.device),
            seconds=state.seconds,
        )
        if position + 1 == a_epoch:
            return
        every = int(state.team.hear(max(1, count * REPORT_SECONDS / seconds))[0])
        window.zero_()
        images, count, since = 0, 0, time.perf_counter()


def take_step(
    state: State,
    images: Tensor,
    labels: Tensor,
    a_epoch: int,
    generator: torch.Generator,
    of: int | None = None,
) -> Tensor:
    """One optimizer step on (N, H, W, 3) uint8 images and (N,) labels, `state.step` counted up.

    In a team these are this process's share `of` so many images. Returns (2,), over all of them:
    the loss times their number, and how many were classified right.
    """
    settings, rank = state.settings, state.team.rank
    seed = mix(f"step {rank}" if rank else "step", settings.seed, state.step)
    generator.manual_seed(seed)  # augmentation
    torch.manual_seed(seed)  # dropout
    inputs = standardize(augment.augment(images, settings, generator), state.mean, state.std)
    for group in state.optimizer.param_groups:
        group["lr"] = optim.learning_rate(settings, state.step, a_epoch) * (
            settings.gamma**state.cuts
        )
    with state.autocast():
        logits = state.forward(inputs)
        loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
    state.optimizer.zero_grad()
    # Gradients are averaged over processes, whose shares may differ by one image.
    weight = len(labels) * state.team.size / (of or len(labels)) if state.team.size > 1 else 1.0
    state.scaler.scale(loss * weight if weight != 1.0 else loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    correct = (logits.detach().argmax(1) == labels).sum()
    return state.team.add(torch.stack((loss.detach().float() * len(labels), correct.float())))


def validate(state: State, split: Split) -> Generator[Validating, None, tuple[float, float]]:
    """Yield progress about once a second; returns mean loss in nats, and accuracy 0..1.

    Raises Diverged where the loss is not finite.
    """
    sums, since = torch.zeros(2, device=state.device), time.perf_counter()
    state.model.eval()
    batch = max(1, VALIDATION_PIXELS // split.images[0, :, :, 0].numel())
    for start in range(0, len(split), batch):
        rows = slice(start, start + batch)
        with torch.inference_mode(), state.autocast():
            logits = state.model(normalize(split.images[rows], state.mean, state.std)).float()
            loss = F.cross_entropy(logits, split.labels[rows], reduction="sum")
            correct = (logits.argmax(1) == split.labels[rows]).sum()
            sums += torch.stack((loss, correct.float()))
        if time.perf_counter() - since > REPORT_SECONDS:
            since = time.perf_counter()
            yield Validating(done=min(rows.stop, len(split)), total=len(split))
    loss_sum, correct_sum = sums.tolist()
    if not math.isfinite(loss_sum):
        raise Diverged(
            f"The validation loss is {loss_sum} at step {state.step}: "
            f"lower the learning rate ({state.settings.peak_lr:g} now) and start again."
        )
    return loss_sum / len(split), correct_sum / len(split)


def _judge(
    state: State, loss: float | None, accuracy: float | None, *, has_validation: bool
) -> bool:
    """Count progress for early stopping and plateau; whether these weights are the best so far."""
    if not has_validation:
        return True  # nothing to choose by: the last weights are the model
    if loss is None or accuracy is None:
        return False
    if loss < state.best_loss * (1 - 1e-4):  # the threshold of torch's ReduceLROnPlateau
        state.best_loss = loss
        state.without_progress = state.since_cut = 0
    else:
        state.without_progress += 1
        state.since_cut += 1
    if state.settings.schedule == "plateau" and state.since_cut > state.settings.patience:
        state.cuts += 1
        state.since_cut = 0
    best = accuracy > state.best_accuracy
    state.best_accuracy = max(accuracy, state.best_accuracy)
    return best


def _training_mode(model: nn.Module) -> None:
    """As model.train(), but a frozen batch norm keeps its statistics too."""
    for module in model.train().modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            module.eval()


def is_finite(model: nn.Module) -> bool:
    """Whether every parameter is a finite number. Waits for the device."""
    return bool(torch.stack([p.detach().isfinite().all() for p in model.parameters()]).all())


def mix(purpose: str, seed: int, count: int) -> int:
    """A seed of 63 bits that depends on all three, so that neighbours share nothing."""
    digest = hashlib.blake2b(f"{purpose} {seed} {count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
