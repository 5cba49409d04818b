import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from imgcls import cli, finder, sitting, train
from imgcls.config import OPTIMIZERS, TrainConfig
from imgcls.data import catalog
from imgcls.errors import ConfigError
from tests.pages.opened import tree


@pytest.fixture
def settings(tiny_dataset):
    return TrainConfig(
        dataset=tiny_dataset, model="softmax", batch_size=32, precision="fp32", threads=1
    )


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(finder, "STEPS", 60)
    monkeypatch.setattr(finder, "STEADY_IMAGES", 1)


def curve(fall_at, rise_at):
    """Rates, and a loss that falls by 1 around one rate and rises without end at another."""
    rates = np.geomspace(finder.LOWEST, finder.HIGHEST, 141)
    fall = 1 / (1 + np.exp(-4 * (np.log10(rates) - math.log10(fall_at))))
    return rates, 2.3 - fall + (rates / rise_at) ** 2


@pytest.mark.parametrize("where", [1e-4, 1e-3, 1e-2, 1e-1])
def test_a_loss_moved_along_the_rates_moves_the_suggestion_as_far(where):
    first, second = (finder.suggest(*curve(x, 100 * x)) for x in (1e-4, where))

    assert second / first == pytest.approx(where / 1e-4, rel=0.15)


def test_the_suggestion_lies_where_the_loss_still_falls():
    rates, losses = curve(0.01, 1.0)

    suggested = finder.suggest(rates, losses)

    assert 0.001 < suggested < rates[losses.argmin()]


def test_a_loss_that_never_falls_suggests_nothing():
    rates = np.geomspace(finder.LOWEST, finder.HIGHEST, 100)

    with pytest.raises(ConfigError, match="fell at no learning rate"):
        finder.suggest(rates, 2.3 + rates)


def test_where_rates_do_nothing_the_curve_is_flat_over_several_passes(settings, monkeypatch):
    monkeypatch.setattr(finder, "HIGHEST", 2 * finder.LOWEST)
    monkeypatch.setattr(finder, "suggest", lambda rates, smoothed: 0.0)
    images = len(catalog.select(settings.dataset, "train", 0.1, 0)[2])
    uneven = images - images // 3  # the rest of each pass is smaller than a batch

    found = finder.learning_rate(settings.replace(batch_size=uneven))

    assert len(found.losses) * uneven > 2 * images
    assert min(found.losses) > 0.7 * max(found.losses)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_from_the_start_is_one_sentence(settings, monkeypatch, broken):
    monkeypatch.setattr(train, "learn", lambda *_: torch.tensor([broken, 0.0]))

    with pytest.raises(ConfigError, match="no rate mends that"):
        finder.learning_rate(settings)


def test_smoothing_keeps_a_straight_line_and_takes_noise_away():
    rates = np.geomspace(finder.LOWEST, finder.HIGHEST, 100)
    line = np.log10(rates)
    noise = np.random.default_rng(0).normal(0, 0.1, 100)

    smoothed = finder.smooth(rates, line + noise)

    assert finder.smooth(rates, line)[15:-15] == pytest.approx(line[15:-15], abs=1e-3)
    assert (smoothed - line)[15:-15].std() < 0.05


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_gets_a_rate_that_its_schedule_may_peak_at(settings, optimizer):
    model = "net" if optimizer == "muon" else "softmax"

    found = finder.learning_rate(settings.replace(optimizer=optimizer, model=model))

    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert np.diff(found.rates).min() > 0
    assert found.rates[0] < found.suggestion < found.rates[-1]
    assert all(map(math.isfinite, found.losses))
    settings.replace(peak_lr=found.suggestion)


def test_a_loss_that_explodes_ends_the_trial(settings):
    found = finder.learning_rate(settings.replace(model="net"))

    assert found.rates[-1] < finder.HIGHEST
    assert "its lowest" in found.ended or "no number" in found.ended


def test_each_step_is_taken_at_its_own_rate_whatever_the_schedule(settings, monkeypatch):
    phases = settings.replace(schedule="phases", phases=((10, 0.3),), peak_lr=0.3)
    rates = []
    take = finder.train.learn

    def watched(state, *rest):
        sums = take(state, *rest)
        rates.append(state.optimizer.param_groups[0]["lr"])
        return sums

    monkeypatch.setattr(finder.train, "learn", watched)

    found = finder.learning_rate(phases)

    assert rates[finder.WARM_STEPS :][: len(found.rates)] == pytest.approx(found.rates)


def test_a_trial_leaves_disk_and_threads_as_they_were(settings, home):
    before, threads = tree(home), torch.get_num_threads()

    finder.learning_rate(settings.replace(threads=2 if threads == 1 else 1))
    finder.batch_size(settings.replace(threads=2 if threads == 1 else 1))

    assert tree(home) == before
    assert torch.get_num_threads() == threads


def test_the_batch_is_the_largest_power_of_two_that_is_allowed(settings, monkeypatch):
    class Memory:
        available = 10**15

    monkeypatch.setattr(finder.psutil, "virtual_memory", lambda: Memory)
    fit = finder.batch_size(settings)
    assert (fit.batch_size, fit.limit) == (32, "There are 54 images to train on.")

    Memory.available = int((fit.needed - 1) / finder.CPU_SHARE)
    less = finder.batch_size(settings)
    assert less.batch_size == 16
    assert less.needed <= less.allowed < fit.needed
    assert less.limit.startswith("32 images would need more")

    Memory.available = 1000
    with pytest.raises(ConfigError, match=r"A step of 2 images needs more than the 0\.0 GB"):
        finder.batch_size(settings)


def test_a_batch_leaves_steps_enough_in_an_epoch(settings, monkeypatch):
    monkeypatch.setattr(finder, "SMALL", (2, 4))
    monkeypatch.setattr(finder, "EPOCH_STEPS", 6)

    fit = finder.batch_size(settings)

    assert fit.batch_size == 8
    assert fit.limit.startswith("16 would leave fewer than 6 steps an epoch of 54 images")


def test_what_is_kept_for_backward_is_what_a_layer_needs(settings):
    begun = sitting.begin(settings)

    kept = [finder._kept_for_backward(begun.state, begun.train, n) for n in (8, 16, 32)]

    # Softmax regression keeps its input, 3·32·32 floats an image, and little else.
    assert kept[2] - kept[1] == pytest.approx(2 * (kept[1] - kept[0]), rel=0.01)
    assert (kept[1] - kept[0]) / 8 == pytest.approx(3 * 4 * 3 * 32 * 32, rel=0.05)


def test_parts_of_a_batch_need_less_memory_than_the_whole(settings):
    begun = sitting.begin(settings.replace(model="net"))

    (whole, _), (parts, _) = (finder._estimated(begun, n, [64, 2048], None) for n in (0, 64))

    assert parts[64] == whole[64]
    assert parts[2048] < whole[2048]


def test_the_rate_goes_in_proportion_with_sgd_alone():
    sgd = TrainConfig(optimizer="sgd", batch_size=128, peak_lr=0.1)

    assert "0.1 at 128 images is 0.8 at 1,024" in finder.scaled_rate(sgd, 1024)
    assert "look for it anew" in finder.scaled_rate(sgd.replace(optimizer="adam"), 1024)


@pytest.mark.parametrize(
    ("what", "kind"), [("lr", finder.Found), ("batch-size", finder.Fit)], ids=["lr", "batch-size"]
)
def test_the_command_line_prints_json(settings, what, kind):
    words = ["find", what, "--recipe", "tutorial-softmax", "--dataset", settings.dataset]
    words += ["--set", "batch_size=32", "--set", "threads=1", "--set", "precision=fp32", "--json"]

    done = CliRunner().invoke(cli.app, words)

    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert {field.name for field in dataclasses.fields(kind)} < answer.keys()
    assert (answer["dataset"], answer["tried_batch_size"]) == (settings.dataset, 32)
