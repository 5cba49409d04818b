"""The run directory, the only truth about a run; no other module knows its file names.

    config.json          what decides the weights: settings, data fingerprint; never changed
    events.jsonl         what the worker said; only ever appended to
    checkpoint/          step-<n>.<sha256>.pt, the last two: everything needed to go on exactly
    model.safetensors    the best weights, with what is needed to use them in its metadata
    predictions/         <split>.npz, stored logits; <split>.tta.npz, of several views an image;
                         <split>.features.npy, what the last layer sees;
                         epoch-<n>.npy, logits of the validation images after that epoch;
                         <split>.robustness.npz and <split>.adversarial.npz, how many are right
                         under corruptions and attacks
    tensorboard/         event files, where the setting asks for them
    log.txt              the worker's output
    lock                 held by the worker: a run is alive while its lock is held
    stop                 somebody asked the worker to stop

This module imports neither torch nor streamlit.
"""

import contextlib
import errno
import filecmp
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import imgcls
from imgcls import config, files
from imgcls.config import TrainConfig
from imgcls.errors import RunError
from imgcls.events import Ended, Epoch, Event, Judging, Queued, Step, effective, from_line, to_line

ID = re.compile(r"\d{8}-\d{6}-[a-z0-9-]{1,40}-[0-9a-f]{4}")
SHIPPED = "shipped"  # the id of the model that comes with imgcls
ASSETS = Path(__file__).parent / "assets"
KEPT_CHECKPOINTS = 2
JUDGING_SECONDS = 2.0  # how long one process waits for another that asks the same model
START_SECONDS = 20.0  # how long a worker may take to take its lock; usually 0.3


class State(StrEnum):
    """What a run is doing, derived from its directory each time it is asked."""

    STARTING = "starting"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"  # the worker died without a last word

    @property
    def alive(self) -> bool:
        return self in (State.STARTING, State.QUEUED, State.RUNNING, State.STOPPING)


@dataclass(frozen=True)
class Run:
    """One run directory. Cheap to make: nothing is read before it is asked for."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def facts(self) -> dict[str, Any]:
        """config.json: `settings`, `created` (ISO 8601), `fingerprint`, `versions`, `commit`."""
        try:
            facts: dict[str, Any] = json.loads((self.path / "config.json").read_text("utf-8"))
            TrainConfig.from_dict(facts["settings"])
        except FileNotFoundError:
            raise RunError(f"No run {self.id} is on disk; it may have been deleted.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise RunError(f"{self.id}/config.json is damaged: delete the run.") from None
        return facts

    @cached_property
    def config(self) -> TrainConfig:
        return TrainConfig.from_dict(self.facts["settings"])

    @property
    def model_path(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def trust_path(self) -> Path:
        return self.path / "trust.json"

    @property
    def known_path(self) -> Path:
        return self.path / "known.npz"

    @property
    def tensorboard_path(self) -> Path:
        return self.path / "tensorboard"

    def predictions_path(self, split: str, tta: bool = False) -> Path:
        return self.path / "predictions" / f"{_stem(split)}{'.tta' if tta else ''}.npz"

    def features_path(self, split: str) -> Path:
        return self.path / "predictions" / f"{_stem(split)}.features.npy"

    def robustness_path(self, split: str) -> Path:
        return self.path / "predictions" / f"{_stem(split)}.robustness.npz"

    def adversarial_path(self, split: str) -> Path:
        return self.path / "predictions" / f"{_stem(split)}.adversarial.npz"

    def answers_path(self, epoch: int) -> Path:
        return self.path / "predictions" / f"epoch-{epoch:05d}.npy"

    def answered_epochs(self) -> list[int]:
        """Epochs after which validation answers were kept, ascending."""
        found = (self.path / "predictions").glob("epoch-*.npy")
        return sorted(int(path.stem.removeprefix("epoch-")) for path in found)

    # --- events ---

    def read(self, offset: int = 0) -> tuple[list[Event], int]:
        """The whole lines from byte `offset` on, and the offset at which to go on."""
        try:
            with open(self.path / "events.jsonl", "rb") as file:
                file.seek(offset)
                block = file.read()
        except FileNotFoundError:
            return [], offset
        end = block.rfind(b"\n") + 1  # a half-written line waits
        found = (from_line(line) for line in block[:end].splitlines())
        return [event for event in found if event is not None], offset + end

    def events(self) -> list[Event]:
        """All events that count, steps repeated after a resume left out."""
        return effective(self.read()[0])

    def append(self, event: Event) -> None:
        """Add one event; raises RunError when the directory is gone, and never makes it anew."""
        path = self.path / "events.jsonl"
        try:
            with open(path, "ab+", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                torn = size > 0 and file.read(1) != b"\n"  # by a crash in the middle of a line
                line = ("\n" if torn else "") + to_line(event)
                written = file.write(line.encode())
        except FileNotFoundError:
            raise RunError(f"Run {self.id} was deleted while it trained.") from None
        if written != len(line.encode()):
            raise OSError(errno.ENOSPC, "No space left for an event")

    def last_event(self) -> Event | None:
        """The newest whole event, from the end of the file alone."""
        try:
            with open(self.path / "events.jsonl", "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 8192))
                block = file.read()
        except FileNotFoundError:
            return None
        lines = block[: block.rfind(b"\n") + 1].splitlines()
        return next((e for e in map(from_line, reversed(lines)) if e is not None), None)

    # --- life ---

    def lock(self) -> int | None:
        """Take the run for this process: a file descriptor to keep open, or None if it is taken."""
        handle = files.lock(self.path / "lock")
        if handle is not None:
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        return handle

    def alive(self) -> bool:
        """Whether a worker holds the lock."""
        return files.is_locked(self.path / "lock")

    def worker_pid(self) -> int | None:
        """The process that holds the lock, if one does."""
        if not self.alive():
            return None
        text = (self.path / "lock").read_text()
        return int(text) if text.isdigit() else None

    def state(self) -> State:
        last = self.last_event()
        if self.alive():
            if self.stop_requested:
                return State.STOPPING
            if isinstance(last, Queued):
                return State.QUEUED
            return State.STARTING if last is None or isinstance(last, Ended) else State.RUNNING
        if isinstance(last, Ended):
            return State(last.state)
        if isinstance(last, Judging):
            return State.FINISHED  # trained; Evaluate makes up for answers that are missing
        return State.STARTING if last is None and self._is_new() else State.INTERRUPTED

    def _is_new(self) -> bool:
        """Whether the worker may still be on its way to its first word."""
        try:
            return time.time() - (self.path / "config.json").stat().st_mtime < START_SECONDS
        except OSError:
            return False

    @property
    def stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    def request_stop(self) -> None:
        """Ask the worker to finish its step, save and end; raises RunError if none is there."""
        if not self.alive():
            raise RunError(f"Run {self.id} is not training: it is {self.state()}.")
        (self.path / "stop").touch()

    def clear_stop(self) -> None:
        (self.path / "stop").unlink(missing_ok=True)

    # --- files ---

    def save_model(self, write: Callable[[Path], None]) -> None:
        """Replace model.safetensors by what `write` puts at the path it is given."""
        files.write_atomically(self.model_path, write)

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> None:
        """Add a checkpoint and keep the last two. Its name carries its SHA-256."""
        folder = self.path / "checkpoint"
        folder.mkdir(exist_ok=True)
        draft = folder / "draft.pt"
        with files.dropping(draft):
            write(draft)
            files.fsync(draft)
            new = folder / f"step-{step:09d}.{files.sha256(draft)}.pt"
            os.replace(draft, new)
        files.fsync(folder)
        others = [path for path in self.checkpoints() if path != new]
        for old in others:
            if checkpoint_step(old) == step or old in others[KEPT_CHECKPOINTS - 1 :]:
                old.unlink()

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, newest first."""
        return sorted((self.path / "checkpoint").glob("step-*.pt"), reverse=True)

    def sound_checkpoints(self) -> list[Path]:
        """Those of `checkpoints` whose bytes still match the SHA-256 in their name."""
        return [
            path for path in self.checkpoints() if files.sha256(path) == path.name.split(".")[1]
        ]

    def save_predictions(
        self, split: str, write: Callable[[Path], None], tta: bool = False
    ) -> None:
        self._save_prediction(self.predictions_path(split, tta), write)

    def save_features(self, split: str, write: Callable[[Path], None]) -> None:
        self._save_prediction(self.features_path(split), write)

    def save_robustness(self, split: str, write: Callable[[Path], None]) -> None:
        self._save_prediction(self.robustness_path(split), write)

    def save_adversarial(self, split: str, write: Callable[[Path], None]) -> None:
        self._save_prediction(self.adversarial_path(split), write)

    def save_answers(self, epoch: int, write: Callable[[Path], None]) -> None:
        self._save_prediction(self.answers_path(epoch), write)

    @contextmanager
    def judging(self, split: str) -> Iterator[None]:
        """One process at a time asks the model about a split.

        Raises RunError where the run is gone, or another process is at it.
        """
        path = self.predictions_path(split).with_suffix(".lock")
        try:
            path.parent.mkdir(exist_ok=True)
            held = files.lock(path, patience=JUDGING_SECONDS)
        except FileNotFoundError:
            raise RunError(f"Run {self.id} was deleted while it was evaluated.") from None
        if held is None:
            raise RunError(
                f"Another process is asking {self.id} about its {split} images: look again in a "
                "minute."
            )
        try:
            yield
        finally:
            os.close(held)

    def _save_prediction(self, path: Path, write: Callable[[Path], None]) -> None:
        path.parent.mkdir(exist_ok=True)
        files.write_atomically(path, write)

    def delete(self) -> None:
        """Remove the directory; raises RunError while the run trains."""
        starting = self._is_new() and not (self.path / "events.jsonl").exists()
        if self.alive() or starting:
            raise RunError(f"Run {self.id} is training: stop it before you delete it.")
        trash = self.path.with_name(f".{self.id}")
        try:
            self.path.rename(trash)
        except FileNotFoundError:
            raise RunError(f"No run {self.id} is on disk; it may have been deleted.") from None
        shutil.rmtree(trash, ignore_errors=True)


def root() -> Path:
    """Where run directories are kept."""
    return config.home() / "runs"


def create(settings: TrainConfig, fingerprint: str, now: datetime) -> Run:
    """A new run directory, complete with its config.json."""
    name = settings.recipe if settings.recipe != "custom" else settings.model
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
    run = Run(root() / f"{now:%Y%m%d-%H%M%S}-{slug}-{secrets.token_hex(2)}")
    draft = run.path.with_name(f".{run.id}")
    draft.mkdir(parents=True)
    facts = {
        "settings": settings.to_dict(),
        "created": now.isoformat(timespec="seconds"),
        "fingerprint": fingerprint,
        "versions": {"imgcls": imgcls.__version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in ("torch", "torchvision", "numpy")},
        "commit": _commit(),
    }
    (draft / "config.json").write_text(config.dumps(facts), encoding="utf-8")
    draft.rename(run.path)
    return run


def _commit() -> str:
    """The commit of the code that runs, `-dirty` where files differ; empty outside a clone."""
    here = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--match="]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip()


def shipped() -> Run:
    """The run of the model that comes with imgcls, under the home, where more can be made of it.

    It is laid out as any run. A file that differs is copied anew: imgcls brings another one, or it
    was damaged. What was compared is read again only once its size or time changes.
    """
    run, source = Run(config.home() / SHIPPED), ASSETS / SHIPPED
    try:
        for path in source.rglob("*"):
            if path.is_file():
                _lay_down(path, run.path / path.relative_to(source))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return Run(source)  # in a home that nobody may write it answers where it stands
    return run


def _lay_down(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if filecmp.cmp(source, target, shallow=False):
            return
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(target, lambda draft: shutil.copyfile(source, draft))


def get(run_id: str) -> Run:
    """The run of this id; raises RunError for an id that is none, or unknown."""
    if run_id == SHIPPED:
        return shipped()
    run = Run(root() / run_id) if ID.fullmatch(run_id) else None
    if run is None or not run.path.is_dir():
        raise RunError(f"No run {run_id[:80]!r} is on disk. See: python -m imgcls runs list")
    return run


def all_runs() -> list[Run]:
    """Every run on disk, newest first."""
    found = [Run(p) for p in root().glob("2*") if ID.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda run: run.id, reverse=True)


def summary(run: Run) -> dict[str, Any]:
    """One row of the table of runs; the keys that `train` and `runs show` print."""
    events = run.events()
    epochs = [e for e in events if isinstance(e, Epoch)]
    accuracies = [e.val_accuracy for e in epochs if e.val_accuracy is not None]
    trained = [e.seconds for e in events if isinstance(e, (Step, Epoch))]
    ended = [e for e in events if isinstance(e, Ended)]
    return {
        "run": run.id,
        "state": run.state().value,
        "recipe": run.config.recipe,
        "model": run.config.model,
        "dataset": run.config.dataset,
        "epochs": epochs[-1].epoch if epochs else 0,
        "of_epochs": run.config.epochs,
        "val_accuracy": max(accuracies, default=None),
        "seconds": trained[-1] if trained else 0.0,
        "created": run.facts["created"],
        "reason": ended[-1].reason if ended else "",
    }


def _stem(split: str) -> str:
    """The file name of a split's answers: test, or test@other for the split other/test."""
    dataset, _, part = split.rpartition("/")
    return f"{part}@{dataset}" if dataset else part


def checkpoint_step(path: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(path.name.split(".")[0].removeprefix("step-"))


def hold_device(device: str) -> int | None:
    """Take a device for this process: a descriptor to keep open, or None while another trains."""
    folder = config.home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return files.lock(folder / f"{device}.lock", patience=0)
