"""What a run says, as event files that TensorBoard and other tools open."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from imgcls import config
from imgcls.config import TrainConfig
from imgcls.events import Epoch, Event, Resumed, Step, effective

FLUSH_SECONDS = 10  # after which a viewer sees what was told
# Of each event: which of its numbers, and the names of their curves. Those of one first word share
# a section of the page.
SCALARS: dict[type[Event], dict[str, str]] = {
    Step: {
        "loss": "step/loss",
        "accuracy": "step/accuracy",
        "lr": "step/learning_rate",
        "images_per_second": "step/images_per_second",
    },
    Epoch: {
        "train_loss": "epoch/train_loss",
        "train_accuracy": "epoch/train_accuracy",
        "val_loss": "epoch/val_loss",
        "val_accuracy": "epoch/val_accuracy",
    },
}


@contextmanager
def writer(
    folder: Path, settings: TrainConfig, before: Iterable[Event] = ()
) -> Iterator[Callable[[Event], None]]:
    """A function that writes an event's numbers, at its global step, into event files of `folder`.

    before: what the run has said, the newest `Resumed` included. A viewer is then told to forget
    what comes from that step on, and what still counts of the step itself is told again: nothing
    appears twice. Raises OSError where the folder cannot be written.
    """
    said = list(before)
    resumed = next((e for e in reversed(said) if isinstance(e, Resumed)), None)
    begin = resumed.step if resumed else None
    with SummaryWriter(str(folder), purge_step=begin, flush_secs=FLUSH_SECONDS) as files:

        def tell(event: Event) -> None:
            if not isinstance(event, (Step, Epoch)):
                return
            for field, name in SCALARS[type(event)].items():
                value = getattr(event, field)
                if value is not None:  # an epoch that was not validated
                    files.add_scalar(name, value, event.step)

        if begin is None:
            files.add_text("settings", _table(settings), 0)
            for summary in hparams(_plain(settings), {"epoch/val_accuracy": None}):
                files.file_writer.add_summary(summary)
        for event in effective(said):
            if isinstance(event, (Step, Epoch)) and event.step == begin:
                tell(event)
        yield tell


def _plain(settings: TrainConfig) -> dict[str, str | float | bool]:
    """Settings as TensorBoard's table of runs takes them."""
    return {
        name: config.format_value(value) if isinstance(value, tuple) else value
        for name, value in settings.to_dict().items()
    }


def _table(settings: TrainConfig) -> str:
    """All settings as a table in Markdown."""
    rows = (f"| {name} | {config.format_value(v)} |" for name, v in settings.to_dict().items())
    return "\n".join(("| setting | value |", "|---|---|", *rows))
