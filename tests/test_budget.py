import itertools
import time

import pytest
import torch

from imgcls import budget, jobs, sitting, train
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError, RunError
from imgcls.events import Epoch


@pytest.fixture
def settings(tiny_dataset):
    return TrainConfig(dataset=tiny_dataset, model="net", batch_size=8, precision="fp32", threads=1)


@pytest.fixture
def machine(monkeypatch):
    """A clock that only steps and validations move, as a machine would whose speed never drifts."""
    now = itertools.count()
    clock = {"now": 0.0, "a_pixel": 1e-4, "a_validation": 2.0, "sides": []}
    monkeypatch.setattr(budget.time, "perf_counter", lambda: clock["now"])

    def learn(state, batch, a_epoch):
        side = batch.inputs.shape[-1]
        clock["now"] += clock["a_pixel"] * side**2
        clock["sides"].append(side)
        state.step = next(now)
        return torch.zeros(2)

    def validate(state, split):
        clock["now"] += clock["a_validation"]
        yield from ()
        return 0.0, 0.0

    monkeypatch.setattr(train, "learn", learn)
    monkeypatch.setattr(train, "validate", validate)
    return clock


def cost(steps, a_step, a_validation, a_epoch, eval_every):
    """What a run takes, told off step by step as `train.fit` goes."""
    seconds, epochs = 0.0, -(-steps // a_epoch)
    for epoch in range(1, epochs + 1):
        seconds += a_step * (min(epoch * a_epoch, steps) - (epoch - 1) * a_epoch)
        if epoch % eval_every == 0 or epoch == epochs:
            seconds += a_validation
    return seconds


@pytest.mark.parametrize("eval_every", [1, 3, 10])
@pytest.mark.parametrize("a_validation", [0.0, 0.5, 30.0])
@pytest.mark.parametrize("seconds", [0.01, 1.03, 33.37, 400.05])  # between two steps
def test_not_one_step_more_would_fit(seconds, a_validation, eval_every):
    given = (0.1, a_validation, 7, eval_every)

    steps = budget.steps_within(seconds, *given)

    assert steps == 0 or cost(steps, *given) <= seconds + 1e-9
    assert steps == 500 * 7 or cost(steps + 1, *given) > seconds


def test_no_run_is_longer_than_the_limit_of_epochs():
    assert budget.steps_within(1e9, 0.1, 0.0, 7, 1) == 3500


def test_steps_and_validations_fill_the_time(settings, machine):
    fixed = budget.within(settings, 1.0)

    a_step, a_epoch = 1e-4 * 32**2, train.steps_per_epoch(54, 8)
    asked = 60 * budget.MARGIN
    assert fixed["steps"] == budget.steps_within(asked, a_step, 2.0, a_epoch, 1)
    assert fixed["epochs"] == -(-fixed["steps"] // a_epoch)
    assert (fixed["precision"], fixed["threads"]) == ("fp32", 1)
    assert asked - 2.0 - a_step < cost(fixed["steps"], a_step, 2.0, a_epoch, 1) <= asked
    made = settings.replace(**fixed)
    assert budget.told(made) == f"{made.steps} steps, {made.steps / a_epoch:.1f} epochs"


def test_less_than_an_epoch_is_a_run_too(settings, machine):
    machine["a_validation"] = 0.1

    fixed = budget.within(settings, 0.01)

    assert fixed["epochs"] == 1
    assert 1 <= fixed["steps"] < train.steps_per_epoch(54, 8)


def test_growing_images_are_timed_at_their_sizes(settings, machine):
    machine["a_validation"] = 0.0
    growing = settings.replace(model="small_resnet", start_size=20, full_size_from=0.6)

    fixed = budget.within(growing, 1.0)

    # A third of 0.6 each at 20, 24 and 28 pixels, the rest at 32.
    a_step = 1e-4 * (0.2 * (20**2 + 24**2 + 28**2) + 0.4 * 32**2)
    assert fixed["steps"] == pytest.approx(60 * budget.MARGIN / a_step, rel=0.003)
    assert set(machine["sides"]) == {20, 24, 28, 32}


def test_of_many_sizes_some_are_timed_and_the_others_lie_between(settings, machine):
    machine["a_validation"] = 0.0
    growing = settings.replace(
        model="small_resnet", start_size=4, full_size_from=1.0
    )  # 4, 8, …, 28: seven

    fixed = budget.within(growing, 1.0)

    a_step = 1e-4 * sum(side**2 for side in range(4, 32, 4)) / 7
    assert len(set(machine["sides"])) == budget.MOST_SIDES
    assert fixed["steps"] == pytest.approx(60 * budget.MARGIN / a_step, rel=0.005)


def test_phases_are_stretched_with_the_epochs(settings, machine):
    machine["a_validation"] = 0.0
    phases = settings.replace(
        schedule="phases", phases=((2, 0.1), (1, 0.01)), epochs=3, peak_lr=0.1
    )

    long, short = (phases.replace(**budget.within(phases, minutes)) for minutes in (1.0, 0.005))

    first, second = long.phases
    assert long.epochs > 50
    assert first[0] == pytest.approx(2 * second[0], abs=2)
    assert (short.epochs, short.phases) == (1, ((1, 0.1),))


def test_a_time_too_short_for_one_step_says_how_long_one_takes(settings, machine):
    with pytest.raises(
        ConfigError, match=r"One step and a validation take about 0\.035 minutes here: ask for more"
    ):
        budget.within(settings, 0.02)


def test_a_real_run_takes_the_time_it_was_given(settings):
    slow = settings.replace(peak_lr=1e-3)
    fixed = slow.replace(**budget.within(slow, 0.05))
    begun = sitting.begin(fixed)

    start = time.perf_counter()
    *_, last = train.fit(begun.state, begun.train, begun.validation)
    seconds = time.perf_counter() - start

    assert isinstance(last, Epoch)
    assert last.step == fixed.steps
    # On a quiet machine it is a tenth; other work may come or go between measurement and run.
    assert 0.3 * 3 < seconds < 3 * 3


def test_a_measurement_in_a_process_of_its_own_says_the_same_kind_of_thing(settings, home):
    phases = settings.replace(schedule="phases", phases=((2, 0.1), (1, 0.01)), epochs=3)

    fixed = jobs.within(phases, 0.1)

    told = fixed.pop("told")
    longer = phases.replace(**fixed)  # phases came through JSON as lists
    assert told == budget.told(longer)
    assert longer.steps > 0
    assert sum(epochs for epochs, _ in longer.phases) == longer.epochs


def test_what_it_refuses_is_its_own_sentence(settings, home):
    with pytest.raises(ConfigError, match="measured with one process, got processes 2"):
        jobs.within(settings.replace(processes=2), 1.0)


def test_a_measurement_that_dies_is_one_sentence(settings, home, monkeypatch):
    monkeypatch.setattr(jobs.sys, "executable", "/bin/false")

    with pytest.raises(RunError, match="ended with status 1: give epochs instead"):
        jobs.within(settings, 1.0)
