"""What a run says while it trains: one dataclass a kind, one line of JSON each.

An event file is only ever appended to. After a resume, steps that were not in the checkpoint are
repeated; `effective` drops the lines that a later `Resumed` makes void.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imgcls import config


@dataclass(frozen=True)
class Queued:
    """The worker waits for its device."""

    time: float  # seconds since 1970
    device: str


@dataclass(frozen=True)
class Started:
    """The worker has its device; sent again at every resume."""

    time: float  # seconds since 1970
    device: str  # as a person would call it
    precision: str  # fp32, bf16 or fp16
    threads: int
    parameters: int
    steps_per_epoch: int
    train_images: int
    validation_images: int
    versions: dict[str, str]
    flops: float = 0.0  # of a forward and a backward pass over one image; 0 in older runs
    flops_by_side: dict[str, float] = field(default_factory=dict)  # the same, by pixels a side
    peak_flops: float = 0.0  # a second, of this machine's matrix product in this number format


@dataclass(frozen=True)
class Resumed:
    """Training goes on from a checkpoint: what was told of later steps and epochs is void."""

    step: int
    epochs: int  # ended before
    note: str  # empty, or what was wrong with a newer checkpoint


@dataclass(frozen=True)
class Step:
    """Where training is, about twice a second; means are over the steps since the last event."""

    step: int  # steps taken since the first
    epoch: int  # from 1
    loss: float  # nats, mean
    accuracy: float  # 0..1, on augmented training images
    lr: float
    images_per_second: float
    memory_mb: float  # resident memory on a CPU, allocated memory on a GPU
    seconds: float  # time spent training, over all sittings


@dataclass(frozen=True)
class Profile:
    """Where the time went since the last of these."""

    step: int
    images: int  # trained on
    seconds: dict[str, float]  # by part of imgcls.doctor.PARTS; empty on Apple GPUs
    sides: dict[str, int] = field(default_factory=dict)  # images by their pixels a side


@dataclass(frozen=True)
class Epoch:
    """The end of an epoch; validation figures are null where the epoch was not validated."""

    epoch: int  # from 1
    step: int
    train_loss: float  # nats, mean over the epoch
    train_accuracy: float  # 0..1, on augmented training images
    val_loss: float | None  # nats
    val_accuracy: float | None  # 0..1, on the held-out training images
    lr: float
    best: bool  # whether its weights became the run's model
    seconds: float  # time spent training, over all sittings


@dataclass(frozen=True)
class Validating:
    """How far a validation that takes more than a second has come."""

    done: int  # images
    total: int  # images


@dataclass(frozen=True)
class Judging:
    """Training is done; how far the model has answered for the images of a split."""

    split: str  # train, validation or test
    done: int  # images
    total: int  # images


@dataclass(frozen=True)
class Ended:
    """The last word of a sitting."""

    time: float  # seconds since 1970
    state: str  # finished, stopped, failed or diverged
    step: int
    reason: str  # one sentence


Event = Queued | Started | Resumed | Step | Profile | Validating | Epoch | Judging | Ended
KINDS: dict[str, type[Any]] = {
    kind.__name__.lower(): kind
    for kind in (Queued, Started, Resumed, Step, Profile, Validating, Epoch, Judging, Ended)
}


def to_line(event: Event) -> str:
    """One line of strict JSON, newline included."""
    kind = type(event).__name__.lower()
    return config.dumps({"event": kind, **dataclasses.asdict(event)}) + "\n"


def from_line(line: bytes | str) -> Event | None:
    """The event of a line; None for a line that is torn, foreign or of an unknown kind."""
    try:
        values = json.loads(line)
        kind = KINDS[values.pop("event")]
        names = values.keys() & {f.name for f in dataclasses.fields(kind)}
        event: Event = kind(**{name: values[name] for name in names})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return event


def effective(events: Iterable[Event]) -> list[Event]:
    """The events that still count: without the steps that a later resume repeated."""
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Resumed):
            kept = [e for e in kept if not _is_void(e, event)]
        kept.append(event)
    return kept


def _is_void(event: Event, resumed: Resumed) -> bool:
    if isinstance(event, Epoch):  # a checkpoint may lie between an epoch's last step and its end
        return event.epoch > resumed.epochs
    return isinstance(event, (Step, Profile)) and event.step > resumed.step
