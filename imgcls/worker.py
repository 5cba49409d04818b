"""The process that trains a run: joins the loop to the run directory, and nothing else.

    python -m imgcls.worker RUN

Started by imgcls.jobs. It holds the run's lock as long as it lives, waits for its device without
torch in memory, and goes on from the newest sound checkpoint if there is one.
"""

import contextlib
import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from imgcls import answers, jobs, runs
from imgcls.data import catalog
from imgcls.errors import ImgclsError, RunError
from imgcls.events import Ended, Epoch, Judging, Queued, Resumed, Started, Step
from imgcls.runs import Run

if TYPE_CHECKING:
    from imgcls.sitting import Sitting
    from imgcls.team import Team

CHECKPOINT_SECONDS = 30.0  # at most so much work is repeated after a crash, a step's length apart
EPOCH_CHECKPOINT_SECONDS = 5.0  # ends of epochs that follow each other faster share a checkpoint
QUEUE_SECONDS = 0.5  # between two looks at the device's lock
JUDGED = ("test", "validation", "train")  # in this order, so that what is looked at first is first
TELL_SECONDS = 1.0  # between two words on how far that is


def main(run_id: str) -> int:
    """Train the run to its end, a stop or an error; the exit status is 0 unless it failed."""
    run = runs.get(run_id)
    if run.lock() is None:  # held until this process ends, as the device's will be
        print(f"Run {run.id} is already being trained by process {run.worker_pid()}.")
        return 3
    run.clear_stop()
    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: signals.append(got))

    def stopping() -> bool:
        return bool(signals) or run.stop_requested

    try:
        state, step, reason = _wait_and_work(run, stopping)
    except ImgclsError as error:
        diverged = type(error).__name__ == "Diverged"  # its module would import torch
        state, step, reason = ("diverged" if diverged else "failed"), _step(run), str(error)
    except Exception as error:
        with contextlib.suppress(OSError):  # the log may be what has no room
            traceback.print_exc()
        state, step, reason = "failed", _step(run), _plain(error, run)
    if state == "finished":
        reason = f"{reason} {_judge(run, stopping)}".rstrip()
    with contextlib.suppress(RunError, OSError):  # deleted, or a full disk: then the log tells
        run.append(Ended(time=time.time(), state=state, step=step, reason=reason))
    with contextlib.suppress(OSError):
        _log(f"{state}: {reason}")
    run.clear_stop()
    return 0 if state in ("finished", "stopped") else 1


def _wait_and_work(run: Run, stopping: Callable[[], bool]) -> tuple[str, int, str]:
    kind = jobs.device_kind(run.config)
    held = _turn(run, kind)
    if held is None:
        _log(f"waits for {kind}: another run trains on it")
        run.append(Queued(time=time.time(), device=kind))
    while held is None:
        if stopping():
            return "stopped", _step(run), "Stopped while it waited for its device."
        if not run.path.exists():
            raise RunError(f"Run {run.id} was deleted while it waited.")
        time.sleep(QUEUE_SECONDS)
        held = _turn(run, kind)
    return work(run, stopping)


def _turn(run: Run, kind: str) -> int | None:
    """The device's lock, where it is free and no run that came before waits for it."""
    held = runs.hold_device(kind)  # first, since a look at all other runs takes much longer
    if held is not None and jobs.waiting_before(run):
        os.close(held)
        return None
    return held


def work(run: Run, stopping: Callable[[], bool]) -> tuple[str, int, str]:
    """Train until the end or a stop: the run's state, its step, and the reason in words."""
    from imgcls import team

    with team.lead(run.id, run.config.processes) as ours:
        return _train(run, stopping, ours)


def follow(run_id: str, port: int, rank: int) -> int:
    """A further process of a run: takes its share of every step and says nothing."""
    from imgcls import team, train

    run = runs.get(run_id)
    ours = team.join(rank, run.config.processes, port)
    begun, _ = _prepare(run, ours)
    for _event in train.fit(begun.state, begun.train, begun.validation):
        pass
    return 0


def _prepare(run: Run, ours: "Team") -> "tuple[Sitting, str]":
    """What to train with, and what there is to say about the checkpoint."""
    from imgcls import machine, sitting

    settings = run.config
    dataset = catalog.load(settings.dataset)
    if catalog.measured_fingerprint(dataset) != run.facts["fingerprint"]:
        raise RunError(
            f"Data set {dataset.name} is not the one that this run began with: start a new run."
        )
    saved, note = _newest_checkpoint(run)
    first = next((e for e in run.events() if isinstance(e, Started)), None)
    # Other threads or another number format would add up in another order.
    same = first and first.device == machine.describe(machine.device(settings.device))
    format = (first.precision, first.threads) if first and same else None
    if format is None and ours.rank == 0 and settings.precision == "auto":
        where = machine.device(settings.device)
        known = machine.remembered(settings, where, dataset.size)
        _log(f"number format: {f'{known}, remembered' if known else 'chosen for this machine now'}")
    return sitting.begin(settings, saved=saved, format=format, team=ours), note


def _train(run: Run, stopping: Callable[[], bool], ours: "Team") -> tuple[str, int, str]:
    import torch

    from imgcls import budget, card, doctor, machine, models, train
    from imgcls.data import tensors

    begun, note = _prepare(run, ours)
    state, train_split, validation = begun.state, begun.train, begun.validation
    settings, dataset, model = run.config, catalog.load(run.config.dataset), state.model
    parameters = sum(p.numel() for p in model.parameters())
    mean, std = tensors.statistics(settings)
    threads, precision = torch.get_num_threads(), state.precision
    sides = {*budget.shares_of_sides(settings, train_split.side), train_split.side}
    # On CUDA, and compiled, mirrored pairs save no multiplications (models/mirror.py).
    halves = state.device.type != "cuda" and settings.compile == "none"
    counted = model if halves else models.answering(model)
    flops = {side: doctor.flops(counted, side) for side in sorted(sides)}
    run.append(
        Started(
            time=time.time(),
            device=machine.describe(state.device),
            precision=precision,
            threads=threads,
            parameters=parameters,
            steps_per_epoch=train.steps_per_epoch(len(train_split), settings.batch_size, ours.size),
            train_images=len(train_split),
            validation_images=len(validation) if validation else 0,
            versions={name: metadata.version(name) for name in ("torch", "torchvision", "numpy")},
            flops=flops[train_split.side],
            flops_by_side={str(side): value for side, value in flops.items()},
            peak_flops=machine.matrix_product(state.device, precision) * ours.size,
        )
    )
    _log(
        f"{settings.recipe} on {dataset.name}: {len(train_split):,} images to train on, "
        f"{parameters:,} parameters; {machine.describe(state.device)}, {precision}, "
        f"{ours.size} processes of {threads} threads, torch {torch.__version__}"
    )
    if state.step:
        _log(f"goes on from step {state.step:,}. {note}".rstrip())
        run.append(Resumed(step=state.step, epochs=state.epochs, note=note))
    elif _step(run):
        run.append(Resumed(step=0, epochs=0, note=note))

    def save_model(event: Epoch) -> None:
        about = card.Card(
            architecture=card.architecture(settings),
            classes=dataset.classes,
            size=dataset.size,
            fit=dataset.fit,
            mean=mean,
            std=std,
            run=run.id,
            recipe=settings.recipe,
            dataset=dataset.name,
            fingerprint=dataset.fingerprint,
            epoch=event.epoch,
            val_accuracy=event.val_accuracy,
        )
        run.save_model(lambda path: models.save(path, state.judged, about))

    def save_checkpoint() -> None:
        if train.is_finite(model):
            run.save_checkpoint(state.step, lambda path: torch.save(state.state_dict(), path))
            _log(f"checkpoint at step {state.step:,}")
        else:
            _log(f"no checkpoint at step {state.step:,}: a weight is not finite")

    last_save = time.monotonic()
    with contextlib.ExitStack() as stack:
        tell = None
        if settings.tensorboard:
            from imgcls import board

            tell = stack.enter_context(board.writer(run.tensorboard_path, settings, run.events()))
        for event in train.fit(state, train_split, validation):
            if isinstance(event, Epoch) and event.best:
                save_model(event)
            if isinstance(event, Epoch) and event.val_loss is not None:
                assert state.answers is not None
                answers.keep(run, event.epoch, state.answers.cpu().numpy())
            run.append(event)
            if tell is not None:
                tell(event)
            if isinstance(event, Epoch):
                _log(_told(event, settings.epochs))
            age = time.monotonic() - last_save
            stop = stopping()
            limit = EPOCH_CHECKPOINT_SECONDS if isinstance(event, Epoch) else CHECKPOINT_SECONDS
            if stop or age > limit:
                save_checkpoint()
                last_save = time.monotonic()
            if stop:
                return "stopped", state.step, f"Stopped at step {state.step}, everything saved."
    save_checkpoint()
    if train.stopped_early(state):
        reason = (
            f"Stopped early: no better validation loss in {state.without_progress} evaluations."
        )
    else:
        reason = "All epochs done."
    return "finished", state.step, reason


def _judge(run: Run, stopping: Callable[[], bool]) -> str:
    """Store what the model answers for each split; what there is to say where that fell short.

    The run has finished whatever happens here: the Evaluate page makes up for what is missing.
    """
    from imgcls.evaluate import predictions

    class Stopped(Exception):
        pass

    told = 0.0

    def progress(done: float, total: float, text: str) -> None:
        nonlocal told
        if stopping():
            raise Stopped
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            run.append(Judging(split=split, done=int(done), total=int(total)))

    for split in JUDGED:
        told = 0.0
        try:
            if split == "test" and split not in catalog.load(run.config.dataset).splits:
                continue
            predictions.compute(run.id, split, progress)
            _log(f"answers for {split} images stored")
        except Stopped:
            return "Stopped before the model had answered for all images."
        except Exception as error:  # whatever it is, the run has finished
            _log(f"answers for {split} images not stored: {error}")
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            return f"Its answers for {split} images were not stored ({why}): Evaluate asks anew."
    return ""


def _log(text: str) -> None:
    """One line for log.txt, which is where this process's output goes."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _told(event: Epoch, epochs: int) -> str:
    text = f"epoch {event.epoch} of {epochs}: training loss {event.train_loss:.4f}"
    if event.val_loss is not None and event.val_accuracy is not None:
        text += f", validation loss {event.val_loss:.4f}, accuracy {event.val_accuracy:.2%}"
    return text + (", kept as the model" if event.best else "")


def _newest_checkpoint(run: Run) -> tuple[dict[str, Any] | None, str]:
    """The contents of the newest checkpoint that is sound, and what there is to say about it."""
    import torch

    found, sound = run.checkpoints(), run.sound_checkpoints()
    if not sound:
        return None, "Every checkpoint is damaged; training starts again." if found else ""
    saved: dict[str, Any] = torch.load(sound[0], map_location="cpu", weights_only=True)
    wanted, step = runs.checkpoint_step(found[0]), saved["step"]
    if found[0] == sound[0]:
        return saved, ""
    return saved, (
        f"Checkpoint at step {wanted} is damaged; "
        f"resumed from step {step}, {wanted - step} steps repeated."
    )


def _step(run: Run) -> int:
    """How many steps the run's events tell of."""
    return max((e.step for e in run.events() if isinstance(e, (Step, Epoch))), default=0)


def _plain(error: Exception, run: Run) -> str:
    """What went wrong, and what to do, in one sentence."""
    text = str(error).splitlines()[0] if str(error) else ""
    # torch and safetensors have words of their own for it.
    full = ("No space left", "os error 28", "unexpected pos")
    if getattr(error, "errno", None) == errno.ENOSPC or any(word in text for word in full):
        return "The disk is full: free some space and resume."
    if isinstance(error, MemoryError) or "memory" in text.lower():
        return f"Out of memory: try a batch size below {run.config.batch_size}."
    return f"{type(error).__name__}: {text} See the log for the whole story."


if __name__ == "__main__":
    status = (
        main(sys.argv[1]) if len(sys.argv) == 2 else follow(sys.argv[1], *map(int, sys.argv[2:]))
    )
    sys.stdout.flush()
    os._exit(status)  # unloading torch takes seconds in which the locks would still be held
