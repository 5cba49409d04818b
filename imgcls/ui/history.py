"""What the pages know of runs: events read once a process however many tabs look, one row a run."""

import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

import streamlit as st

from imgcls import runs
from imgcls.config import TrainConfig
from imgcls.errors import ImgclsError
from imgcls.events import Ended, Epoch, Event, Resumed, Step, effective
from imgcls.runs import Run, State

DAMAGED = "damaged"  # the state of a run whose directory cannot be read
_LARGEST = 2**53  # of a number that is drawn
# Null where it was not measured, or was not finite.
_MAY_LACK = ("loss", "accuracy", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


@dataclass
class Tail:
    """The events of one run so far; `poll` reads what was appended since."""

    run: Run
    events: list[Event] = field(default_factory=list)
    offset: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> list[Event]:
        """All sound events that count; a new list each time something came."""
        with self.lock:
            new, self.offset = self.run.read(self.offset)
            if new:
                joined = [*self.events, *filter(_sound, new)]
                resumed = any(isinstance(event, Resumed) for event in new)
                self.events = effective(joined) if resumed else joined
            return self.events


@dataclass(frozen=True)
class Row:
    """One run as tables and choosers show it; damaged runs have an id, a state and a reason."""

    id: str
    state: str
    reason: str = ""
    recipe: str = ""
    model: str = ""
    dataset: str = ""
    epochs: int = 0
    of_epochs: int = 0
    val_accuracy: float | None = None
    seconds: float = 0.0
    study: str = ""

    @property
    def alive(self) -> bool:
        return self.state != DAMAGED and State(self.state).alive


def events(run: Run) -> list[Event]:
    """The events of a run, read incrementally; empty where they cannot be read."""
    try:
        return _tail(str(run.path), run).poll()
    except Exception:  # whatever a damaged file raises, the page goes on without curves
        return []


def epochs(seen: list[Event]) -> list[Epoch]:
    """The ends of epochs among events."""
    return [event for event in seen if isinstance(event, Epoch)]


def row(run: Run) -> Row:
    """What a table shows of a run; never raises for a damaged one."""
    try:
        state, settings = run.state(), run.config
        if state.alive:  # its events grow each second: only what is new is read
            return _summary(run, state, settings, events(run))
        return _row(str(run.path), state, repr(run.last_event()), run, settings)
    except Exception as error:  # whatever a damaged file raises, it is one run's matter
        said = str(error) if isinstance(error, ImgclsError) else "its files cannot be read"
        return Row(run.id, DAMAGED, said)


def rows() -> list[Row]:
    """All runs, newest first."""
    return [row(run) for run in runs.all_runs()]


@st.cache_resource(max_entries=16, show_spinner=False)
def _tail(path: str, _run: Run) -> Tail:
    return Tail(_run)


@st.cache_data(max_entries=1024, show_spinner=False)
def _row(path: str, state: State, last: str, _run: Run, _settings: TrainConfig) -> Row:
    return _summary(_run, state, _settings, effective(filter(_sound, _run.read()[0])))


def _summary(run: Run, state: State, settings: TrainConfig, sound: list[Event]) -> Row:
    ended, newest = epochs(sound), sound[::-1]
    return Row(
        id=run.id,
        state=state.value,
        reason=next((e.reason for e in newest if isinstance(e, Ended)), ""),
        recipe=settings.recipe,
        study=settings.study,
        model=settings.model,
        dataset=settings.dataset,
        epochs=ended[-1].epoch if ended else 0,
        of_epochs=settings.epochs,
        val_accuracy=best_accuracy(ended),
        seconds=next((e.seconds for e in newest if isinstance(e, (Step, Epoch))), 0.0),
    )


def best_accuracy(ended: list[Epoch]) -> float | None:
    """The best validation accuracy of some epochs; None where none was validated."""
    return max((e.val_accuracy for e in ended if e.val_accuracy is not None), default=None)


def _sound(event: Event) -> bool:
    """Whether an event holds the kinds of values that it should: its file may be damaged."""
    kind: Any = type(event)
    for name, wanted in _fields(kind):
        value = getattr(event, name)
        if value is None and name in _MAY_LACK:
            continue
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            return False
        if isinstance(value, (int, float)) and not abs(value) < _LARGEST:
            return False
    return True


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any], ...]:
    real = (int, float)
    accepted: dict[Any, Any] = {
        int: int, float: real, float | None: real, str: str, bool: bool, dict[str, str]: dict,
    }  # fmt: skip
    hints = get_type_hints(kind).items()
    return tuple((name, accepted.get(hint, object)) for name, hint in hints)
