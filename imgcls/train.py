"""The training loop: a generator of events that touches neither file nor screen.

What is random at a step depends on seed, step and settings alone, so a run that goes on from a
saved `State` takes the very steps that it would have taken without the break.
"""

import hashlib
import math
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from imgcls import averaging, doctor, machine, optim
from imgcls.config import TrainConfig
from imgcls.data import augment
from imgcls.data.tensors import Split, normalize, resize, standardize
from imgcls.errors import ImgclsError
from imgcls.events import Epoch, Profile, Step, Validating
from imgcls.team import ALONE, Team

REPORT_SECONDS = 0.5  # between two events; each reads four numbers back from the device
PROFILE_SECONDS = 5.0  # between two words on where the time went
HALF_RANGE = 65504.0  # the largest number of float16
# Of small batches that are prepared at once: 128 images of 32×32. Runs with another number here
# see other augmentation, since the first of those batches seeds it for all.
PREPARED_PIXELS = 2**17
STACKED = 64  # tensors at once; of 208 torch 2.13 was once reported to crash on Apple GPUs, untried
VALIDATION_PIXELS = 2**18  # images a batch times their pixels: 256 images of 32×32


class Diverged(ImgclsError):
    """The loss is no longer a finite number."""


class State:
    """Everything that changes while a run trains: save it, load it, and training goes on exactly.

    model: on the device that computes, in the memory format that it prefers. precision: fp32, bf16
    or fp16. mean, std: a channel, for pixels 0..1. class_weights: (classes,), which the loss of an
    image is multiplied by, on the model's device.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainConfig,
        precision: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        team: Team = ALONE,
        class_weights: Tensor | None = None,
    ) -> None:
        self.model = model
        self.average = averaging.start(model) if settings.ema else None
        self.team = team
        self.forward = _compiled(team.wrap(model), settings)
        self.settings = settings
        self.class_weights = class_weights
        self.device = next(model.parameters()).device
        self.precision = precision
        self.optimizer = optim.build(model, settings, precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.mean = torch.tensor(mean, device=self.device)
        self.std = torch.tensor(std, device=self.device)
        self.step = 0
        self.epochs = 0  # ended, validation included
        self.seconds = 0.0  # spent training, over all sittings
        self.epoch_sums = (0.0, 0.0)  # loss times images, images correct; told steps alone
        self.best_accuracy = -1.0
        self.best_loss = math.inf
        self.without_progress = 0  # evaluations since best_loss
        self.since_cut = 0  # the same, counted anew at each cut of schedule plateau
        self.cuts = 0  # of schedule plateau
        self.losses: Tensor | None = None  # (images,), of each when last seen, for hard_share
        self.hardest = torch.zeros(0, dtype=torch.int64)  # rows that this epoch takes
        self.answers: Tensor | None = None  # (N, classes) float16, logits of the last validation
        self.clock = doctor.Clock(self.device)  # tells of this sitting alone

    _numbers = (
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
            "average": {} if self.average is None else self.average.state_dict(),
            "losses": torch.zeros(0) if self.losses is None else self.losses,
            "hardest": self.hardest,
            "epoch_sums": self.epoch_sums,
            **{name: getattr(self, name) for name in self._numbers},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the number format stays that of this machine."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:  # empty where the other number format needed none
            self.scaler.load_state_dict(saved["scaler"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        if len(saved["losses"]):
            self.losses = saved["losses"].to(self.device)
            self.hardest = saved["hardest"].to(self.device)
        loss, correct = torch.as_tensor(saved["epoch_sums"], dtype=torch.float64).tolist()
        self.epoch_sums = loss, correct
        for name in self._numbers:
            setattr(self, name, saved[name])

    @property
    def judged(self) -> nn.Module:
        """What is validated and saved: the average of the weights, where there is one."""
        return self.average if self.average is not None else self.model

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
) -> Iterator[Step | Profile | Validating | Epoch]:
    """Train in place from where `state` stands; stop iterating to stop.

    Between two events nothing makes the device wait. Yields Step about twice a second and at each
    epoch's end, Profile now and then, and Epoch once `state` holds the epoch's outcome. Raises
    Diverged when a loss is not finite.
    """
    settings = state.settings
    a_epoch = steps_per_epoch(len(train), settings.batch_size, state.team.size)
    total = settings.total_steps(a_epoch)
    prepare(state, train)
    while state.epochs < settings.epochs and not stopped_early(state):
        epoch = state.epochs + 1
        end = min(epoch * a_epoch, total)
        if state.step < end:  # else the state was saved between last step and here
            yield from _steps(state, train, epoch, a_epoch, end)
        start = time.perf_counter()
        loss, correct = state.epoch_sums
        seen = min((end - (epoch - 1) * a_epoch) * settings.batch_size, len(train))
        val_loss = val_accuracy = None
        last = end == total or epoch == settings.epochs
        due = epoch % settings.eval_every == 0 or last
        if validation is not None and due:
            state.clock.mark("idle")
            if state.team.rank == 0:
                val_loss, val_accuracy = yield from validate(state, validation)
            val_loss, val_accuracy = state.team.hear(val_loss or 0.0, val_accuracy or 0.0)
            state.clock.mark("evaluation")
            yield Profile(state.step, 0, state.clock.take())  # no later one may come
        best = _judge(state, val_loss, val_accuracy, has_validation=validation is not None)
        state.epochs = settings.epochs if last else epoch
        state.epoch_sums = 0.0, 0.0
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


def prepare(state: State, train: Split) -> None:
    """Make room for the loss of each image, where the settings want to know it; else nothing."""
    if state.settings.hard_share < 1 and state.losses is None:
        state.losses = torch.full((len(train),), math.inf, device=state.device)  # unseen is hardest


def _steps(
    state: State, train: Split, epoch: int, a_epoch: int, end: int
) -> Iterator[Step | Profile]:
    """The rest of an epoch, from the step that `state` stands at up to step `end`."""
    generator = torch.Generator(state.device).manual_seed(mix("order", state.settings.seed, epoch))
    order, mirrored = order_of(state, len(train), epoch, a_epoch, generator)
    window: list[Tensor] = []  # sums of each step, added up when they are read
    images, since = 0, time.perf_counter()
    count, every = 0, 1  # steps since the last event; in a team, the leader says how many
    profiled, sides = since, Counter[str]()
    training_mode(state.model)
    ready: deque[Batch] = deque()
    while True:
        state.clock.begin()
        if not ready:
            ready.extend(next_batches(state, train, order, mirrored, a_epoch, generator))
        batch = ready.popleft()
        state.clock.mark("data")
        sides[str(batch.inputs.shape[-1])] += batch.images
        window.append(learn(state, batch, a_epoch))
        images += batch.images
        count += 1
        seconds = time.perf_counter() - since
        due = seconds >= REPORT_SECONDS if state.team.size == 1 else count >= every
        if not due and state.step < end:
            continue
        loss, correct = _added(state, window)  # the device catches up here
        seconds = time.perf_counter() - since
        state.seconds += seconds
        if not math.isfinite(loss):
            raise Diverged(
                f"The training loss is {loss / images} near step {state.step}: "
                f"lower the learning rate ({state.settings.peak_lr:g} now) and start again."
            )
        yield Step(
            step=state.step,
            epoch=epoch,
            loss=loss / images,
            accuracy=correct / images,
            lr=state.optimizer.param_groups[0]["lr"],
            images_per_second=images / seconds,
            memory_mb=machine.memory_mb(state.device),
            seconds=state.seconds,
        )
        if time.perf_counter() - profiled >= PROFILE_SECONDS or state.step == end:
            yield Profile(state.step, sides.total(), state.clock.take(), dict(sides))
            profiled, sides = time.perf_counter(), Counter[str]()
        if state.step == end:
            return
        every = int(state.team.hear(max(1, count * REPORT_SECONDS / seconds))[0])
        window.clear()
        images, count, since = 0, 0, time.perf_counter()


def order_of(
    state: State, images: int, epoch: int, a_epoch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """The rows of an epoch in their order, int64 (images,), and which to mirror, where it is fixed.

    From `hard_from` on only the hardest `hard_share` of the images are taken, again and again until
    there are as many as in any other epoch: those with the largest loss when last trained on.
    Source: selective backpropagation, Jiang et al. 2019, arXiv:1910.00762, with stale losses.
    """
    settings, kept = state.settings, images
    late = (epoch - 1) * a_epoch >= settings.hard_from * settings.total_steps(a_epoch)
    if state.losses is not None and late:
        kept = max(1, round(settings.hard_share * images))
        if state.step == (epoch - 1) * a_epoch:  # in the middle of an epoch losses have moved on
            state.hardest = state.losses.topk(kept).indices
        passes = [
            state.hardest[torch.randperm(kept, generator=generator, device=state.device)]
            for _ in range(-(-images // kept))
        ]
        order = torch.cat(passes)[:images]
    else:
        order = torch.randperm(images, generator=generator, device=state.device)
    if not settings.alternating_flip:
        return order, None
    turns = torch.arange(images, device=state.device) // kept + epoch
    return order, augment.alternating(order, turns, mix("mirror", settings.seed, 0))


def _added(state: State, window: list[Tensor]) -> tuple[float, float]:
    """What the steps of a window come to over the team; `state.epoch_sums` are that much larger.

    Step by step and in float64, so that an epoch's sums do not depend on when they were read.
    """
    loss, correct = state.epoch_sums
    some = (window[i : i + STACKED] for i in range(0, len(window), STACKED))
    steps = state.team.add(torch.cat([torch.stack(few) for few in some])).tolist()
    for step_loss, step_correct in steps:
        loss, correct = loss + step_loss, correct + step_correct
    state.epoch_sums = loss, correct
    return sum(s[0] for s in steps), sum(s[1] for s in steps)


class Batch(NamedTuple):
    """What one step learns from."""

    images: int  # of the whole team
    rows: Tensor  # int64 (n,), this process's share of them
    inputs: Tensor  # (n, 3, side, side) floats, augmented and normalised
    labels: Tensor  # int64 (n,)


def next_batches(
    state: State,
    train: Split,
    order: Tensor,
    mirrored: Tensor | None,
    a_epoch: int,
    generator: torch.Generator,
) -> list[Batch]:
    """The next batch of the epoch; where batches are small, the next few, prepared as one.

    Which belong together does not depend on the step that a sitting began with.
    """
    size, side = state.settings.batch_size, _side(state, train, a_epoch, state.step)
    position = state.step % a_epoch
    before = state.step - position  # steps of earlier epochs
    most = max(1, PREPARED_PIXELS // (size * train.side**2))
    several = 1 << (most.bit_length() - 1)  # a power of two, of which doctor.EVERY is no divisor
    begin = position - position % several
    those = range(begin, min(begin + several, a_epoch))
    alike = [i for i in those if _side(state, train, a_epoch, before + i) == side]
    first, images = alike[0], slice(alike[0] * size, (alike[-1] + 1) * size)
    flips = None if mirrored is None else mirrored[images].split(size)
    rows, step = order[images].split(size), before + first
    return _batches(state, train, rows, a_epoch, generator, flips, step)[position - first :]


def _batches(
    state: State,
    train: Split,
    rows: Sequence[Tensor],
    a_epoch: int,
    generator: torch.Generator,
    mirrored: Sequence[Tensor] | None,
    step: int,
) -> list[Batch]:
    """A batch of each of these rows, the first of which is for step number `step`."""
    team = state.team
    mine = [team.share(some) for some in rows]
    flips = None if mirrored is None else torch.cat([team.share(some) for some in mirrored])
    generator.manual_seed(_seed_of(state, step))
    every, counts = torch.cat(mine), [len(some) for some in mine]
    inputs = _inputs(state, train, every, _side(state, train, a_epoch, step), generator, flips)
    parts = zip(rows, mine, inputs.split(counts), train.labels[every].split(counts), strict=True)
    return [Batch(len(whole), some, images, labels) for whole, some, images, labels in parts]


def take_step(
    state: State,
    train: Split,
    rows: Tensor,
    a_epoch: int,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
) -> Tensor:
    """One optimizer step on these rows of `train`, int64 (N,); `state.step` is counted up.

    mirrored: bool (N,), which to mirror; by chance if not given. In a team this process takes its
    share of them. Returns (2,), over that share: the loss times its number, and how many were
    classified right.
    """
    state.clock.begin()
    flips = None if mirrored is None else [mirrored]
    [batch] = _batches(state, train, [rows], a_epoch, generator, flips, state.step)
    state.clock.mark("data")
    return learn(state, batch, a_epoch)


def learn(state: State, batch: Batch, a_epoch: int) -> Tensor:
    """As `take_step`, on a batch that is ready."""
    settings, team = state.settings, state.team
    _seed(state.device, _seed_of(state, state.step))  # dropout
    for group in state.optimizer.param_groups:
        group["lr"] = optim.learning_rate(settings, state.step, a_epoch) * (
            settings.gamma**state.cuts
        )
    state.optimizer.zero_grad()
    # Gradients are averaged over processes, whose shares may differ by one image.
    scale = team.size / batch.images
    sums, losses = [], []
    count = team.parts(batch.images, settings.micro_batch)
    parts = zip(batch.inputs.tensor_split(count), batch.labels.tensor_split(count), strict=True)
    for number, (part, wanted) in enumerate(parts, start=1):
        with team.accumulate(state.forward, last=number == count):
            with state.autocast():
                logits = state.forward(part)
                each = F.cross_entropy(
                    logits,
                    wanted,
                    weight=state.class_weights,
                    label_smoothing=settings.label_smoothing,
                    reduction="none",
                )
                loss = each.sum()
            state.clock.mark("forward")
            state.scaler.scale(loss * scale).backward()
        state.clock.mark("backward")
        losses.append(each.detach())
        correct = (logits.detach().argmax(1) == wanted).sum()
        sums.append(torch.stack((loss.detach(), correct)))
    if state.losses is not None:
        state.losses[batch.rows] = torch.cat(losses)
    if settings.clip_norm:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(optim.learning(state.model), settings.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    if state.average is not None:
        averaging.update(state.average, state.model, settings.ema, state.step)
    state.clock.mark("optimizer")
    return sums[0] if count == 1 else torch.stack(sums).sum(0)


def _seed_of(state: State, step: int) -> int:
    """For what is random at a step, other for each process of a team."""
    rank = state.team.rank
    return mix(f"step {rank}" if rank else "step", state.settings.seed, step)


def _seed(device: torch.device, seed: int) -> None:
    """What torch.manual_seed does, for this device alone.

    That one also notes down, traceback and all, what other devices should do once they are begun:
    a sixth of a small step's time, and memory that grows with each.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _inputs(
    state: State,
    train: Split,
    rows: Tensor,
    side: int,
    generator: torch.Generator,
    mirrored: Tensor | None = None,
) -> Tensor:
    """(N, 3, side, side) floats, augmented and normalised."""
    floats = augment.augment(train.images(rows), state.settings, generator, mirrored)
    floats = resize(floats, side)
    return standardize(floats, state.mean, state.std)


def _side(state: State, train: Split, a_epoch: int, step: int) -> int:
    """Pixels a side of the images in a step."""
    share = step / state.settings.total_steps(a_epoch)
    return augment.side_at(state.settings, share, train.side)


def _compiled(forward: nn.Module, settings: TrainConfig) -> Any:
    """The network as torch.compile makes it, where that is asked for."""
    if settings.compile == "none":
        return forward
    graphs = settings.compile == "cuda-graphs"
    return torch.compile(forward, mode="reduce-overhead" if graphs else "default", dynamic=False)


def validate(state: State, split: Split) -> Generator[Validating, None, tuple[float, float]]:
    """Yield progress about once a second; returns mean loss in nats, and accuracy 0..1.

    `state.answers` are then the logits that it rests on. Raises Diverged where the loss is not
    finite.
    """
    answers = []
    sums, since = torch.zeros(2, device=state.device), time.perf_counter()
    model = state.judged.eval()
    side = max(split.side, state.settings.input_size)
    batch = max(1, VALIDATION_PIXELS // side**2)
    for start in range(0, len(split), batch):
        rows = slice(start, start + batch)
        with torch.inference_mode(), state.autocast():
            logits = model(normalize(split.images(rows), state.mean, state.std)).float()
            loss = F.cross_entropy(logits, split.labels[rows], reduction="sum")
            correct = (logits.argmax(1) == split.labels[rows]).sum()
            sums += torch.stack((loss, correct.float()))
            answers.append(logits.clamp(-HALF_RANGE, HALF_RANGE).half())
        if time.perf_counter() - since > REPORT_SECONDS:
            since = time.perf_counter()
            yield Validating(done=min(rows.stop, len(split)), total=len(split))
    loss_sum, correct_sum = sums.tolist()
    if not math.isfinite(loss_sum):
        raise Diverged(
            f"The validation loss is {loss_sum} at step {state.step}: "
            f"lower the learning rate ({state.settings.peak_lr:g} now) and start again."
        )
    state.answers = torch.cat(answers)
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


def training_mode(model: nn.Module) -> None:
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
