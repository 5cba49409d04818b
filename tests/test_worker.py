"""The life of a run in real processes: killed, stopped, raced for, queued, damaged, deleted."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from imgcls import events, jobs, runs, worker
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.errors import RunError
from imgcls.evaluate import dynamics, predictions
from imgcls.events import Ended, Epoch, Judging, Queued, Resumed, Started, Step
from imgcls.runs import State
from imgcls.team import Team
from tests.making import save_model

REPOSITORY = Path(__file__).resolve().parents[1]
NOW = datetime(2026, 1, 2, 3, 4, 5)
WAIT = 120.0  # seconds; a busy machine takes many to import torch
# The real worker, but it speaks and saves after each step, so that any moment can be tested.
EAGER = """
import sys
from imgcls import train, worker
train.REPORT_SECONDS = worker.CHECKPOINT_SECONDS = worker.EPOCH_CHECKPOINT_SECONDS = 0
sys.exit(worker.main(sys.argv[1]))
"""
SLOW = {  # dropout, batch norm, augmentation and Adam: all that a resume could get wrong
    "model": "simple_cnn",
    "optimizer": "adam",
    "peak_lr": 0.001,
    "batch_size": 4,
    "epochs": 4,
    "flip": True,
    "crop_pad": 2,
    "noise": 0.02,
    "precision": "fp32",
    "threads": 1,
}


@pytest.fixture
def make(tiny_dataset):
    """A function that makes a run on tiny images."""

    def create(**settings):
        config = TrainConfig(dataset=tiny_dataset, **{**SLOW, **settings})
        return runs.create(config, catalog.load(tiny_dataset).fingerprint, NOW)

    return create


@pytest.fixture
def spawn():
    """A function that starts a worker process; those still there at the end are killed."""
    started = []

    def start(run):
        with open(run.log_path, "ab") as log:
            command = [sys.executable, "-c", EAGER, run.id]
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(condition, what):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT} s for {what}"
        time.sleep(0.01)


def steps(run):
    return max((e.step for e in run.events() if isinstance(e, Step)), default=0)


def outcome(run):
    """What must not depend on interruptions: last checkpoint, model, what epochs reported, and
    what they answered."""
    saved = torch.load(run.sound_checkpoints()[0], weights_only=True)
    saved.pop("seconds")
    epochs = [
        (e.epoch, e.step, e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy, e.best)
        for e in run.events()
        if isinstance(e, Epoch)
    ]
    model = {name: value.numpy().tobytes() for name, value in load_file(run.model_path).items()}
    kept = {epoch: run.answers_path(epoch).read_bytes() for epoch in run.answered_epochs()}
    return plain(saved), epochs, model, kept


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def test_a_run_killed_again_and_again_ends_with_the_same_bytes_as_one_left_alone(make, spawn):
    alone, killed = make(), make()
    assert spawn(alone).wait() == 0

    for at_step in (3, 17, 31):  # epochs have 14 steps: each falls inside one
        process = spawn(killed)
        until(lambda at_step=at_step: steps(killed) >= at_step, f"step {at_step}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert killed.state() == State.INTERRUPTED
    assert spawn(killed).wait() == 0

    assert len([e for e in killed.events() if isinstance(e, Resumed)]) == 3
    assert outcome(killed) == outcome(alone)


def test_what_a_run_answered_after_each_epoch_is_kept(make, spawn):
    run = make(epochs=3)
    assert spawn(run).wait() == 0

    history = dynamics.load(run)

    shares = (history.predicted == history.labels).mean(1)
    told = {e.epoch: e.val_accuracy for e in run.events() if isinstance(e, Epoch)}
    assert dict(zip(history.epochs, shares, strict=True)) == pytest.approx(told)


def test_a_finished_run_has_answered_for_every_image(make, spawn):
    run = make(epochs=1)
    assert spawn(run).wait() == 0

    told = [e.split for e in run.events() if isinstance(e, Judging)]
    assert list(dict.fromkeys(told)) == ["test", "validation", "train"]
    for split in catalog.SPLITS:
        answers, features = predictions.load(run, split), predictions.features(run, split)
        assert len(answers.labels) == len(features)
    assert sum(len(predictions.load(run, s).labels) for s in ("train", "validation")) == 60
    assert run.events()[-1].reason == "All epochs done."


def test_a_stop_after_training_leaves_a_finished_run(make):
    run = make()
    save_model(run, seed=0)

    assert worker._judge(run, lambda: True).startswith("Stopped before")
    assert predictions.load(run, "train") is None


def test_answers_that_cannot_be_stored_are_told_and_the_run_has_finished(make, monkeypatch):
    run = make()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(predictions, "compute", full)

    assert worker._judge(run, lambda: False) == (
        "Its answers for test images were not stored ([Errno 28] No space left on device): "
        "Evaluate asks anew."
    )


def test_a_data_set_without_test_images_is_judged_by_what_it_has(home, make):
    run = make()
    save_model(run, seed=0)
    for kind in ("images", "labels"):
        (catalog.path("tiny") / f"test.{kind}.npy").unlink()
    facts = json.loads((catalog.path("tiny") / "dataset.json").read_text())
    del facts["counts"]["test"]
    (catalog.path("tiny") / "dataset.json").write_text(json.dumps(facts))

    assert worker._judge(run, lambda: False) == ""
    assert predictions.load(run, "test") is None
    assert predictions.load(run, "train") is not None


def test_a_run_stopped_and_resumed_ends_with_the_same_bytes(make, spawn):
    alone, stopped = make(epochs=2), make(epochs=2)
    assert spawn(alone).wait() == 0

    process = spawn(stopped)
    until(lambda: steps(stopped) >= 5, "step 5")
    stopped.request_stop()
    assert process.wait() == 0
    assert stopped.state() == State.STOPPED
    assert steps(stopped) < 28
    assert spawn(stopped).wait() == 0

    assert outcome(stopped) == outcome(alone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_run_cleanly(make, spawn, number):
    run = make(epochs=200)
    process = spawn(run)
    until(lambda: steps(run) >= 2, "step 2")

    process.send_signal(number)

    assert process.wait() == 0
    assert run.state() == State.STOPPED
    assert runs.checkpoint_step(run.sound_checkpoints()[0]) == steps(run)


def test_a_damaged_checkpoint_is_passed_over_and_told(make, spawn):
    alone, run = make(epochs=2), make(epochs=2)
    assert spawn(alone).wait() == 0
    process = spawn(run)
    until(lambda: steps(run) >= 6, "step 6")
    process.kill()
    process.wait()
    newest = run.checkpoints()[0]
    contents = bytearray(newest.read_bytes())
    contents[len(contents) // 2] ^= 1
    newest.write_bytes(contents)

    assert spawn(run).wait() == 0

    [resumed] = [e for e in run.events() if isinstance(e, Resumed)]
    assert resumed.note == (
        f"Checkpoint at step {runs.checkpoint_step(newest)} is damaged; "
        f"resumed from step {resumed.step}, 1 steps repeated."
    )
    assert outcome(run) == outcome(alone)


def test_of_several_processes_that_resume_a_run_one_wins(make, spawn):
    run = make(epochs=200)
    processes = [spawn(run) for _ in range(3)]
    until(lambda: sum(p.poll() is not None for p in processes) == 2, "two losers")

    winner = next(p for p in processes if p.poll() is None)
    assert [p.returncode for p in processes if p is not winner] == [3, 3]
    assert run.worker_pid() == winner.pid
    with pytest.raises(RunError, match=f"already being trained by process {winner.pid}"):
        jobs.start(run)


def test_a_run_deleted_while_it_trains_ends_its_worker_and_stays_deleted(make, spawn):
    run = make(epochs=200)
    process = spawn(run)
    until(lambda: steps(run) >= 2, "step 2")

    while run.path.exists():  # the worker may just be adding a file
        shutil.rmtree(run.path, ignore_errors=True)

    assert process.wait() == 1
    assert not run.path.exists()


def test_data_that_changed_between_stop_and_resume_is_refused(make, spawn, home):
    run = make()
    images = home / "datasets/tiny/train.images.npy"
    images.write_bytes(images.read_bytes()[:-1] + b"\x07")

    assert spawn(run).wait() == 1

    assert run.state() == State.FAILED
    assert "is not the one that this run began with" in runs.summary(run)["reason"]


def test_a_run_killed_before_its_first_checkpoint_keeps_its_number_format(make, spawn):
    run = make(precision="auto", threads=0, model="softmax", epochs=400)
    code = EAGER.replace("= 0", "= 1e9")  # neither events nor checkpoints in between
    process = subprocess.Popen([sys.executable, "-c", code, run.id], cwd=REPOSITORY)
    until(lambda: any(isinstance(e, Started) for e in run.events()), "the start")
    process.kill()
    process.wait()
    said = [e for e in run.events() if isinstance(e, Started)]
    other = dataclasses.replace(said[0], precision="bf16", threads=1)
    (run.path / "events.jsonl").write_text(events.to_line(other))

    process = spawn(run)
    until(lambda: len([e for e in run.events() if isinstance(e, Started)]) == 2, "a start")
    process.kill()

    again = [e for e in run.events() if isinstance(e, Started)][1]
    assert (again.precision, again.threads) == ("bf16", 1)


def test_a_full_disk_fails_in_one_sentence_and_keeps_the_last_checkpoint(make, spawn):
    run = make(epochs=200)
    process = spawn(run)
    until(lambda: steps(run) >= 3, "step 3")
    process.kill()
    process.wait()
    before = run.sound_checkpoints()
    # A file may not grow beyond this: events fit, a checkpoint (25 MB) does not.
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))\n"
    command = [sys.executable, "-c", limited + EAGER, run.id]

    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 1

    assert run.state() == State.FAILED
    assert run.sound_checkpoints() == before
    assert [p.name for p in (run.path / "checkpoint").iterdir() if "draft" in p.name] == []


def test_a_run_that_diverges_says_so_and_keeps_finite_checkpoints_only(make, spawn):
    # A decay that overshoots by nine times the weights each step: no draw of images holds it.
    run = make(model="net", optimizer="sgd", peak_lr=10.0, weight_decay=1.0, epochs=50)

    assert spawn(run).wait() == 1

    assert run.state() == State.DIVERGED
    assert "lower the learning rate" in runs.summary(run)["reason"]
    for path in run.sound_checkpoints():
        model = torch.load(path, weights_only=True)["model"]
        assert all(value.isfinite().all() for value in model.values())


def test_a_second_run_waits_for_the_device_and_can_be_stopped_while_it_waits(make):
    device = runs.hold_device(jobs.device_kind(TrainConfig()))
    run = make()
    jobs.start(run)
    until(lambda: run.state() == State.QUEUED, "the queue")
    assert [type(e) for e in run.events()] == [Queued]

    run.request_stop()
    until(lambda: run.state() == State.STOPPED, "the stop")
    os.close(device)


def test_a_run_outlives_its_starter_and_finishes(make):
    run = make(model="softmax", epochs=1, precision="auto", threads=0)
    code = "import sys; from imgcls import jobs, runs; jobs.start(runs.get(sys.argv[1]))"

    subprocess.run([sys.executable, "-c", code, run.id], cwd=REPOSITORY, check=True)

    until(lambda: not run.alive(), "the end")
    assert run.state() == State.FINISHED
    with pytest.raises(RunError, match="has finished"):
        jobs.start(run)


def test_a_worker_that_cannot_begin_says_why(make, home):
    run = make()
    shutil.rmtree(home / "datasets")

    jobs.start(run)
    until(lambda: not run.alive(), "the end")

    ended = run.events()[-1]
    assert isinstance(ended, Ended)
    assert "No data set named 'tiny' is on disk" in ended.reason


def test_two_processes_take_the_steps_of_one(make, spawn):
    settings = {"model": "cnn", "optimizer": "sgd", "peak_lr": 0.01, "batch_size": 8, "epochs": 2,
                "flip": False, "crop_pad": 0, "noise": 0.0}  # fmt: skip
    one, two = make(**settings), make(**settings, processes=2)

    assert (spawn(one).wait(), spawn(two).wait()) == (0, 0)

    alone, together = load_file(one.model_path), load_file(two.model_path)
    for name, value in alone.items():
        assert torch.allclose(together[name], value, atol=1e-5), name
    said = [[e.val_accuracy for e in run.events() if isinstance(e, Epoch)] for run in (one, two)]
    assert said[0] == said[1]


def test_two_processes_part_an_odd_batch_into_equally_many_micro_batches(make, spawn):
    settings = {"model": "cnn", "optimizer": "sgd", "peak_lr": 0.01, "batch_size": 9, "epochs": 1,
                "micro_batch": 2, "flip": False, "crop_pad": 0, "noise": 0.0}  # fmt: skip
    one, two = make(**settings), make(**settings, processes=2)  # shares of 5 and 4 images

    process = spawn(two)
    until(lambda: process.poll() is not None, "the end of both")

    assert (spawn(one).wait(), process.returncode) == (0, 0)
    alone, together = load_file(one.model_path), load_file(two.model_path)
    for name, value in alone.items():
        assert torch.allclose(together[name], value, atol=1e-5), name


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (1, 4), (2, 3), (3, 2), (5, 1), (9, 1)])
def test_all_of_a_team_part_their_shares_alike_and_none_is_empty(size, parts):
    rows = torch.arange(9)  # shares of 5 and 4
    for rank in range(2):
        team = Team(rank, 2)
        found = team.share(rows).tensor_split(team.parts(len(rows), size))
        assert len(found) == parts
        assert all(len(part) > 0 for part in found)


def test_two_processes_killed_end_with_the_same_bytes_as_two_left_alone(make, spawn):
    alone, killed = make(epochs=2, processes=2), make(epochs=2, processes=2)
    assert spawn(alone).wait() == 0
    process = spawn(killed)
    until(lambda: steps(killed) >= 5, "step 5")
    process.kill()
    process.wait()

    assert spawn(killed).wait() == 0

    assert outcome(killed) == outcome(alone)
