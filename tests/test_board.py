import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from imgcls import board
from imgcls.config import TrainConfig
from imgcls.events import Epoch, Resumed, Step

SETTINGS = TrainConfig(model="net", peak_lr=0.05, schedule="phases", phases=((10, 0.05),))


def step(number, loss, epoch=1):
    return Step(number, epoch, loss, 0.5, 0.05, 1000.0, 200.0, float(number))


def epoch(number, at, loss, val_loss=1.5):
    val_accuracy = None if val_loss is None else 0.4
    return Epoch(number, at, loss, 0.5, val_loss, val_accuracy, 0.05, True, float(at))


def write(folder, said, new):
    """A sitting that tells `new` after all that was `said`; returns what has been said then."""
    with board.writer(folder, SETTINGS, said) as tell:
        for event in new:
            tell(event)
    time.sleep(1.1)  # files are told apart by the second, and read in the order of their names
    return [*said, *new]


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def curve(found, name):
    return [(point.step, pytest.approx(point.value)) for point in found.Scalars(name)]


def test_steps_and_epochs_stand_at_their_global_step(tmp_path):
    write(tmp_path, [], [step(5, 2.0), step(10, 1.5), epoch(1, 10, 1.75)])

    found = read(tmp_path)

    assert curve(found, "step/loss") == [(5, 2.0), (10, 1.5)]
    assert curve(found, "step/learning_rate") == [(5, 0.05), (10, 0.05)]
    assert curve(found, "step/images_per_second") == [(5, 1000.0), (10, 1000.0)]
    assert curve(found, "epoch/train_loss") == [(10, 1.75)]
    assert curve(found, "epoch/val_accuracy") == [(10, 0.4)]


def test_an_epoch_without_validation_has_no_point_on_its_curves(tmp_path):
    write(tmp_path, [], [epoch(1, 10, 1.7, val_loss=None), epoch(2, 20, 1.2)])

    found = read(tmp_path)

    assert curve(found, "epoch/train_loss") == [(10, 1.7), (20, 1.2)]
    assert curve(found, "epoch/val_loss") == [(20, 1.5)]


def test_the_settings_are_text_and_hyper_parameters(tmp_path):
    write(tmp_path, [], [step(5, 2.0)])

    found = read(tmp_path)

    (text,) = found.Tensors("settings/text_summary")
    assert "| phases | 10x0.05 |" in text.tensor_proto.string_val[0].decode()
    (started,) = [c for n, c in found.PluginTagToContent("hparams").items() if "start" in n]
    assert b"peak_lr" in started
    assert b"10x0.05" in started


def test_what_a_resumed_run_repeats_appears_once(tmp_path):
    said = write(tmp_path, [], [step(5, 2.0), step(10, 1.5), epoch(1, 10, 1.75), step(15, 1.4)])
    said = write(tmp_path, [*said, Resumed(step=10, epochs=1, note="")], [step(14, 1.3)])
    write(tmp_path, [*said, Resumed(step=10, epochs=1, note="")], [step(16, 1.2)])

    found = read(tmp_path)

    assert curve(found, "step/loss") == [(5, 2.0), (10, 1.5), (16, 1.2)]
    assert curve(found, "epoch/train_loss") == [(10, 1.75)]
    assert len(found.Tensors("settings/text_summary")) == 1


def test_an_epoch_told_anew_after_its_last_step_appears_once(tmp_path):
    said = write(tmp_path, [], [step(10, 1.5), epoch(1, 10, 1.75)])

    write(tmp_path, [*said, Resumed(step=10, epochs=0, note="")], [epoch(1, 10, 1.75)])

    found = read(tmp_path)
    assert curve(found, "step/loss") == [(10, 1.5)]
    assert curve(found, "epoch/train_loss") == [(10, 1.75)]


def test_a_run_that_begins_again_leaves_nothing_of_before(tmp_path):
    said = write(tmp_path, [], [step(5, 2.0)])

    write(tmp_path, [*said, Resumed(step=0, epochs=0, note="")], [step(4, 2.1)])

    found = read(tmp_path)
    assert curve(found, "step/loss") == [(4, 2.1)]
    assert len(found.Tensors("settings/text_summary")) == 1
