import fcntl
import os
import threading
from datetime import datetime

import pytest

from imgcls import events, files, runs
from imgcls.config import TrainConfig
from imgcls.errors import RunError
from imgcls.events import Ended, Epoch, Judging, Profile, Queued, Resumed, Step
from imgcls.runs import State

NOW = datetime(2026, 1, 2, 3, 4, 5)


def step(n, loss=1.0):
    return Step(
        step=n,
        epoch=1,
        loss=loss,
        accuracy=0.5,
        lr=0.1,
        images_per_second=10.0,
        memory_mb=1.0,
        seconds=float(n),
    )


def epoch(n, at, accuracy=0.5):
    return Epoch(
        epoch=n,
        step=at,
        train_loss=1.0,
        train_accuracy=0.5,
        val_loss=1.0,
        val_accuracy=accuracy,
        lr=0.1,
        best=True,
        seconds=float(at),
    )


@pytest.fixture
def run(home):
    made = runs.create(TrainConfig(recipe="quick", model="net"), "abc", NOW)
    os.utime(made.path / "config.json", (0, 0))  # its worker has had its time to start
    return made


@pytest.mark.parametrize(
    "event",
    [step(1), epoch(1, 5), Queued(time=1.0, device="cpu"), Resumed(step=3, epochs=0, note="é")],
)
def test_an_event_survives_its_line(event):
    assert events.from_line(events.to_line(event)) == event


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"event": "nap"}', '{"event": "step"}'])
def test_a_line_that_is_no_event_is_none(line):
    assert events.from_line(line) is None


def test_a_loss_that_is_no_number_becomes_null():
    assert '"loss": null' in events.to_line(step(1, loss=float("nan")))


def test_a_resume_makes_later_steps_before_it_void():
    told = [step(1), step(2), epoch(1, 3), Resumed(step=1, epochs=0, note=""), step(2), epoch(1, 3)]

    assert events.effective(told) == [told[0], *told[3:]]


def test_an_epoch_that_ended_after_its_checkpoint_is_void_too(run):
    told = [step(3), epoch(1, 3), Resumed(step=3, epochs=0, note=""), epoch(1, 3)]

    assert events.effective(told) == [told[0], *told[2:]]


def test_a_checkpoint_replaces_an_earlier_one_of_its_step(run):
    for contents in (b"before validation", b"after validation"):
        run.save_checkpoint(7, lambda path, contents=contents: path.write_bytes(contents))

    assert [path.read_bytes() for path in run.checkpoints()] == [b"after validation"]


def test_events_cut_at_any_byte_give_whole_events_only(run):
    for event in (step(1), Resumed(step=1, epochs=0, note="naïve"), step(2)):
        run.append(event)
    path = run.path / "events.jsonl"
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]

    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found, offset = run.read()
        assert len(found) == sum(end <= cut for end in ends)
        assert offset == max([end for end in ends if end <= cut], default=0)


def test_reading_goes_on_where_it_ended(run):
    run.append(step(1))
    _, offset = run.read()
    run.append(step(2))

    assert run.read(offset)[0] == [step(2)]


def test_an_event_for_a_deleted_run_is_refused_and_makes_nothing(run):
    run.delete()

    with pytest.raises(RunError, match="was deleted while it trained"):
        run.append(step(1))
    assert not run.path.exists()


def test_a_run_is_alive_while_its_lock_is_held(run):
    assert (run.alive(), run.state()) == (False, State.INTERRUPTED)
    handle = run.lock()
    assert (run.alive(), run.state(), run.worker_pid()) == (True, State.STARTING, os.getpid())
    os.close(handle)
    assert not run.alive()


def test_a_run_just_made_is_starting_and_not_deleted_under_its_worker(home):
    run = runs.create(TrainConfig(), "abc", NOW)

    assert run.state() == State.STARTING
    with pytest.raises(RunError, match="stop it before you delete it"):
        run.delete()


def test_an_event_after_a_torn_line_is_a_line_of_its_own(run):
    run.append(step(1))
    path = run.path / "events.jsonl"
    path.write_bytes(path.read_bytes()[:-20])

    run.append(step(2))

    assert run.events() == [step(2)]


def test_config_json_tells_versions_and_commit(run):
    assert run.facts["versions"].keys() == {"imgcls", "python", "torch", "torchvision", "numpy"}
    assert isinstance(run.facts["commit"], str)


def test_a_failed_checkpoint_leaves_no_draft_behind(run):
    def full_disk(path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run.save_checkpoint(1, full_disk)
    assert list((run.path / "checkpoint").iterdir()) == []


def test_a_lock_has_one_holder(run):
    handle = run.lock()

    assert run.lock() is None
    os.close(handle)


def test_somebody_who_looks_does_not_keep_a_worker_from_its_lock(run):
    (run.path / "lock").touch()
    looking = os.open(run.path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    os.close(looking)

    handle = run.lock()

    assert handle is not None
    os.close(handle)


@pytest.mark.parametrize(
    ("told", "held", "state"),
    [
        ([Queued(time=1.0, device="cpu")], True, State.QUEUED),
        ([step(1)], True, State.RUNNING),
        ([step(1)], False, State.INTERRUPTED),
        ([step(1), Ended(time=1.0, state="stopped", step=1, reason="")], False, State.STOPPED),
        ([step(1), Ended(time=1.0, state="stopped", step=1, reason="")], True, State.STARTING),
        ([Ended(time=1.0, state="diverged", step=1, reason="")], False, State.DIVERGED),
    ],
)
def test_the_state_follows_from_lock_and_last_event(run, told, held, state):
    for event in told:
        run.append(event)
    handle = run.lock() if held else None

    assert run.state() == state
    if handle is not None:
        os.close(handle)


def test_a_run_that_trains_is_neither_deleted_nor_without_a_stop(run):
    handle = run.lock()
    with pytest.raises(RunError, match="stop it before you delete it"):
        run.delete()
    run.request_stop()
    assert run.state() == State.STOPPING
    os.close(handle)
    run.delete()
    assert runs.all_runs() == []


def test_stopping_a_run_that_does_not_train_says_what_it_is(run):
    with pytest.raises(RunError, match="is not training: it is interrupted"):
        run.request_stop()


def test_a_failed_save_keeps_the_old_model(run):
    run.save_model(lambda path: path.write_bytes(b"old"))

    def full_disk(path):
        path.write_bytes(b"ne")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run.save_model(full_disk)
    assert run.model_path.read_bytes() == b"old"


def test_the_last_two_checkpoints_are_kept_newest_first(run):
    for n in (1, 20, 300):
        run.save_checkpoint(n, lambda path, n=n: path.write_bytes(b"%d" % n))

    assert [runs.checkpoint_step(path) for path in run.checkpoints()] == [300, 20]


def test_a_checkpoint_with_one_byte_changed_is_not_sound(run):
    for n in (1, 2):
        run.save_checkpoint(n, lambda path: path.write_bytes(b"contents"))
    run.checkpoints()[0].write_bytes(b"contentz")

    assert [runs.checkpoint_step(path) for path in run.sound_checkpoints()] == [1]


@pytest.mark.parametrize(
    "name", ["../../etc", "", "20260102-030405-net-abcd/../x", "20260102-030405-net-abcd", "x" * 99]
)
def test_an_id_that_is_no_run_is_refused(home, name):
    with pytest.raises(RunError, match="No run"):
        runs.get(name)


def test_a_damaged_config_says_to_delete_the_run(run):
    (run.path / "config.json").write_text('{"settings": {"epochs": -1}}')

    with pytest.raises(Exception, match=r"epochs must be|damaged"):
        _ = runs.get(run.id).config


def test_a_summary_tells_best_accuracy_epochs_and_time(run):
    for event in (epoch(1, 5, 0.7), epoch(2, 10, 0.6), step(12)):
        run.append(event)

    told = runs.summary(run)

    assert (told["val_accuracy"], told["epochs"], told["seconds"]) == (0.7, 2, 12.0)


def test_a_summary_of_a_run_cut_off_after_a_word_on_its_time_still_tells_seconds(run):
    run.append(step(12))
    run.append(Profile(step=12, images=0, seconds={"forward": 1.0}))

    assert runs.summary(run)["seconds"] == 12.0


def test_two_that_write_one_file_at_once_do_not_share_a_draft(tmp_path):
    path, seen = tmp_path / "file", []

    def slowly(text):
        def write(draft):
            seen.append(draft)
            draft.write_text(text)
            barrier.wait(10)

        return write

    barrier = threading.Barrier(2)
    both = [
        threading.Thread(target=files.write_atomically, args=(path, slowly(text))) for text in "ab"
    ]
    for one in both:
        one.start()
    for one in both:
        one.join()

    assert len(set(seen)) == 2
    assert path.read_text() in "ab"
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time_asks_a_model_about_a_split(run, monkeypatch):
    monkeypatch.setattr(runs, "JUDGING_SECONDS", 0.1)
    with run.judging("test"):
        with run.judging("train"):
            pass
        with pytest.raises(RunError, match="Another process is asking"), run.judging("test"):
            pass
    with run.judging("test"):
        pass


def test_a_run_that_died_while_it_was_judged_has_finished(run):
    run.append(Judging(split="train", done=10, total=100))

    assert run.state() == State.FINISHED


def test_drafts_of_writers_that_were_killed_are_swept(tmp_path):
    old, young = tmp_path / ".file.1-1.draft", tmp_path / ".file.2-2.draft"
    for draft in (old, young):
        draft.write_text("half")
    os.utime(old, (0, 0))

    files.write_atomically(tmp_path / "file", lambda draft: draft.write_text("whole"))

    assert sorted(path.name for path in tmp_path.iterdir()) == [young.name, "file"]
