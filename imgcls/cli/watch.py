"""Stay with a run until it ends, and let Ctrl-C stop it cleanly."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imgcls import events, jobs
from imgcls.cli import show
from imgcls.errors import RunError
from imgcls.events import Event
from imgcls.runs import Run

LOOK_SECONDS = 0.2

Signals = list[int]


@contextmanager
def signals() -> Iterator[Signals]:
    """Collect Ctrl-C and SIGTERM in the list instead of dying of them."""
    got: Signals = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda received, _: got.append(received)) for number in numbers]
    try:
        yield got
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def start_and_follow(run: Run, got: Signals) -> None:
    """Start or resume a run and show its progress until it ends.

    The first signal asks the run to stop; a second leaves it to do so by itself.
    """
    _, offset = run.read()
    jobs.start(run)
    asked = False
    with show.bar() as progress:
        task = progress.add_task(run.id, total=None)

        def update(description: str, completed: int, total: int | None = None) -> None:
            progress.update(task, description=description, completed=completed)
            if total:
                progress.update(task, total=total)

        while len(got) < 2:
            alive = run.alive()  # asked before reading, so that last words are not missed
            said, offset = run.read(offset)
            for event in said:
                line = _tell(run, event, update)
                if line:
                    progress.console.print(line, soft_wrap=True)
            if not alive:
                return
            if got and not asked:
                asked = True
                progress.console.print(
                    "Stopping after this step. Ctrl-C again: do not wait for it."
                )
            if got and not run.stop_requested:  # again each time: a worker clears it as it starts
                with contextlib.suppress(RunError):
                    run.request_stop()
            time.sleep(LOOK_SECONDS)


def _tell(run: Run, event: Event, update: Callable[..., None]) -> str:
    """Move the bar by an event; returns the line to print for it, if any."""
    epochs = run.config.epochs
    if isinstance(event, events.Queued):
        update(f"waiting for {event.device}, which another run uses", 0)
        return f"{run.id} waits for {event.device}: another run trains on it."
    if isinstance(event, events.Started):
        update("training", 0, run.config.total_steps(event.steps_per_epoch))
        return (
            f"{run.id}: {event.train_images:,} images, {event.parameters:,} parameters, "
            f"on {event.device} in {event.precision}"
        )
    if isinstance(event, events.Resumed):
        update("training", event.step)
        return f"Going on from step {event.step:,}. {event.note}".rstrip()
    if isinstance(event, events.Step):
        update(f"epoch {event.epoch}/{epochs}  loss {event.loss:.3f}", event.step)
    if isinstance(event, events.Judging):
        update(f"judging {event.split} images", event.done, event.total)
    if isinstance(event, events.Epoch):
        update(f"epoch {event.epoch}/{epochs}", event.step)
        line = f"epoch {event.epoch}/{epochs}  loss {event.train_loss:.3f}"
        if event.val_accuracy is not None:
            line += f"  validation {show.percent(event.val_accuracy)}"
        return f"{line}  {event.seconds:.1f} s"
    return ""
