"""Studies: what is trained, what is read from its runs, and statistics against scipy."""

import os
import time
from datetime import datetime, timedelta

import pytest
from scipy import stats

from imgcls import recipes, runs, studies
from imgcls.config import TrainConfig
from imgcls.errors import ConfigError, RunError
from imgcls.events import Ended, Epoch
from imgcls.runs import State
from imgcls.studies import ablation, find, seeds, student, welch

NOW = datetime(2026, 1, 2, 3, 4, 5)
BASE = TrainConfig(recipe="tutorial-softmax", model="softmax", dataset="tiny")


def record(plan, accuracies, state="finished", after=0):
    """Runs as their workers would have left them; None leaves out validation."""
    made = []
    for i, (settings, accuracy) in enumerate(zip(plan, accuracies, strict=True)):
        run = runs.create(settings, "f" * 64, NOW + timedelta(seconds=i + after))
        run.append(Epoch(1, 10, 0.5, 0.8, 0.6, accuracy, 0.1, True, 2.5))
        run.append(Ended(0.0, state, 10, ""))
        made.append(run)
    return made


# --- statistics ---


def test_the_interval_of_a_mean_is_students():
    values = [0.90, 0.92, 0.91, 0.95, 0.89]

    expected = stats.t.interval(0.95, 4, loc=0.914, scale=stats.sem(values))

    assert student(values) == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_a_mean_by_hand():
    # mean 0.92, sd 0.02, t(0.975, 2) = 4.302653: 0.92 ± 4.302653 × 0.02 / √3
    assert student([0.90, 0.92, 0.94]) == pytest.approx((0.870317, 0.969683), abs=1e-6)


def test_the_interval_of_a_difference_is_welchs():
    first, second = [0.90, 0.92, 0.91], [0.93, 0.97, 0.94, 0.99]

    expected = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)

    assert welch(second, first) == pytest.approx(tuple(expected), abs=1e-12)
    low, high = welch(first, second)
    assert (-high, -low) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("values", [[], [0.9], [0.9, 0.9, 0.9]])
def test_without_spread_there_is_no_interval(values):
    assert student(values) is None
    assert welch(values, values) is None


@pytest.mark.parametrize(
    ("unchanged", "changed", "verdict"),
    [
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], "real difference"),
        ([0.90, 0.905, 0.91], [0.90, 0.905, 0.912], "within noise"),
        ([0.098, 0.266], [0.965, 0.944], "too few seeds to tell"),
        ([0.90, 0.91, 0.92], [0.10], "needs 2 seeds or more"),
        ([0.90, 0.91], [], "no result yet"),
        ([0.90, 0.90], [0.91, 0.91], "no spread: add seeds"),
    ],
)
def test_a_difference_is_called_real_only_beyond_noise(home, unchanged, changed, verdict):
    plan = ablation(BASE, "peak_lr", [1.0], 3, NOW)
    both = [p for p in plan if p.peak_lr == 0.1], [p for p in plan if p.peak_lr == 1.0]
    record(both[0][: len(unchanged)], unchanged)
    record(both[1][: len(changed)], changed, after=10)
    if not changed:
        record(both[1][:1], [0.5], "diverged", after=10)

    study = find(plan[0].study)
    difference, _, said = study.difference(study.arms[1])

    assert study.arms[0].label == "0.1"
    assert said == verdict
    if changed:
        means = sum(changed) / len(changed), sum(unchanged) / len(unchanged)
        assert difference == pytest.approx(means[0] - means[1])
    assert study.difference(study.arms[0]) == (None, None, "unchanged")


# --- plans ---


def test_seeds_share_a_name_and_differ_in_nothing_else():
    plan = seeds(BASE.replace(seed=5), 3, NOW)

    assert [one.seed for one in plan] == [5, 6, 7]
    assert {one.replace(seed=0) for one in plan} == {BASE.replace(study=plan[0].study)}
    assert plan[0].study == "tutorial-softmax-tiny-3-seeds-20260102-030405"


def test_an_ablation_goes_round_all_arms_before_the_next_seed():
    plan = ablation(BASE, "peak_lr", [0.2, 0.1, 0.2, 0.3], 2, NOW)

    assert [(one.seed, one.peak_lr) for one in plan] == [
        (0, 0.1), (0, 0.2), (0, 0.3), (1, 0.1), (1, 0.2), (1, 0.3),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "values", "count", "says"),
    [
        ("peak_lr", [0.1], 1, "peak_lr is 0.1 already"),
        ("peak_lr", [], 1, "peak_lr is 0.1 already"),
        ("peak_lr", [99.0], 1, "peak_lr must be"),
        ("optimizer", ["adam"], 1, "With optimizer adam: nesterov needs optimizer sgd"),
        ("seed", [1], 1, "seed cannot be what an ablation varies"),
        ("split_seed", [1], 1, "split_seed cannot be"),
        ("study", ["x"], 1, "study cannot be"),
        ("speed", [1], 1, "No setting named 'speed'"),
        ("peak_lr", [0.2], 0, "A study has 1 to 1000 runs, this one would have 0"),
        ("peak_lr", [0.2], 501, "this one would have 1002"),
    ],
)
def test_an_ablation_that_cannot_be_is_one_sentence(setting, values, count, says):
    settings = BASE.replace(nesterov=True) if setting == "optimizer" else BASE

    with pytest.raises(ConfigError) as error:
        ablation(settings, setting, values, count, NOW)

    assert str(error.value).startswith(says) or says in str(error.value)


def test_without_validation_there_is_nothing_to_compare():
    with pytest.raises(ConfigError, match="set train_on to train"):
        ablation(BASE.replace(train_on="train+validation"), "peak_lr", [0.2], 1, NOW)


def test_values_are_read_as_the_setting_reads_them():
    assert studies.parse_values("peak_lr", "0.05, 1e-1,") == [0.05, 0.1]
    assert studies.parse_values("flip", "true,FALSE") == [True, False]
    assert studies.parse_values("phases", "1x0.1,2x0.2; 3x0.3") == [
        ((1, 0.1), (2, 0.2)), ((3, 0.3),)
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="peak_lr must be a number, got 'fast'"):
        studies.parse_values("peak_lr", "0.1,fast")


def test_the_command_says_all_that_is_needed():
    settings = recipes.config_for("tutorial-softmax", "tiny", epochs=3, flip=True)
    words = "--recipe tutorial-softmax --dataset tiny"

    assert studies.command(settings) == f"python -m imgcls train {words} --epochs 3 --set flip=true"
    assert studies.command(settings, count=5) == (
        f"python -m imgcls train {words} --seeds 5 --epochs 3 --set flip=true"
    )
    assert studies.command(settings.replace(study="x"), "peak_lr", [0.1, 0.2], 1) == (
        f"python -m imgcls ablate {words} --vary peak_lr=0.1,0.2 --seeds 1 --set study=x "
        "--epochs 3 --set flip=true"
    )


# --- what is read from the runs ---


def test_a_study_is_read_from_the_settings_of_its_runs(home):
    plan = ablation(BASE, "peak_lr", [0.01, 0.5], 2, NOW)
    record([BASE], [0.99])  # belongs to none
    record(plan, [0.80, 0.70, 0.60, 0.82, 0.74, 0.62])

    study = find(plan[0].study)

    assert (study.varied, study.recipe, study.dataset) == (
        ("peak_lr",), "tutorial-softmax", "tiny",
    )  # fmt: skip
    assert [(arm.label, arm.accuracies) for arm in study.arms] == [
        ("0.1", [0.80, 0.82]), ("0.01", [0.70, 0.74]), ("0.5", [0.60, 0.62]),
    ]  # fmt: skip
    first = study.arms[0]
    assert (first.mean, first.sd) == pytest.approx((0.81, 0.02 / 2**0.5))
    assert studies.names() == [study.name]


def test_an_interval_of_accuracies_ends_where_accuracy_does(home):
    plan = seeds(BASE, 2, NOW)
    record(plan, [0.99, 0.95])

    low, high = find(plan[0].study).arms[0].interval

    assert high == 1.0
    assert low == pytest.approx(student([0.99, 0.95])[0])


def test_runs_that_did_not_finish_are_counted_and_not_averaged(home):
    plan = seeds(BASE, 5, NOW)
    record(plan[:2], [0.8, 0.9])
    for settings, state in zip(plan[2:], ("failed", "diverged", "stopped"), strict=True):
        record([settings], [0.1], state)

    (arm,) = find(plan[0].study).arms

    assert arm.accuracies == [0.8, 0.9]
    assert arm.unfinished == {"failed": 1, "diverged": 1, "stopped": 1}
    assert len(arm.results) == 5


def test_a_result_is_read_anew_when_the_run_goes_on(home):
    (settings,) = seeds(BASE, 1, NOW)
    (run,) = record([settings], [0.5], "stopped")
    assert find(settings.study).results[0].accuracy == 0.5

    run.append(Epoch(2, 20, 0.4, 0.9, 0.5, 0.7, 0.1, True, 5.0))
    run.append(Ended(0.0, "finished", 20, ""))

    (result,) = find(settings.study).results
    assert (result.state, result.accuracy, result.epochs) == (State.FINISHED, 0.7, 2)


def test_a_study_by_hand_may_vary_several_settings(home):
    record(
        [BASE.replace(study="mine"), BASE.replace(study="mine", flip=True, crop_pad=2)], [0.8, 0.9]
    )

    assert [arm.label for arm in find("mine").arms] == [
        "flip false, crop_pad 0", "flip true, crop_pad 2",
    ]  # fmt: skip


def test_a_damaged_run_does_not_hide_a_study(home):
    made = record(seeds(BASE, 2, NOW), [0.8, 0.9])
    (made[0].path / "config.json").write_text("{")
    studies._settings.cache_clear()  # as a process would find it that starts now

    assert len(find(made[1].config.study).results) == 1


@pytest.mark.parametrize("name", ["", "gone", "../x"])
def test_an_unknown_study_is_one_sentence(home, name):
    record([BASE], [0.9])  # its study is ""

    with pytest.raises(RunError, match="No study"):
        find(name)


# --- going on ---


def test_what_remains_is_what_never_began_or_was_cut_short(home):
    plan = seeds(BASE, 5, NOW)
    record(plan[:1], [0.8])
    (stopped,) = record(plan[1:2], [0.5], "stopped")
    record(plan[2:3], [0.1], "diverged")

    assert studies.remaining(plan) == [(plan[1], stopped), (plan[3], None), (plan[4], None)]


def test_too_many_to_wait_are_refused_before_the_first_starts(tiny_dataset):
    with pytest.raises(ConfigError, match="41 runs are too many to wait in line"):
        studies.queue(seeds(BASE, 41, NOW))

    assert runs.all_runs() == []


def test_a_queue_trains_every_run_one_after_the_other(tiny_dataset):
    settings = recipes.config_for("tutorial-softmax", "tiny", epochs=1)
    plan = ablation(settings, "peak_lr", [0.02], 1, datetime.now())
    held = runs.hold_device("cpu")

    made = studies.queue(plan)

    assert [run.config for run in made] == plan
    assert made[0].id[:15] < made[1].id[:15]  # so that the unchanged arm is known as the oldest
    deadline = time.monotonic() + 20
    while {run.state() for run in made} != {State.QUEUED} and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [run.state() for run in made] == [State.QUEUED] * 2
    assert studies.queue(plan) == []  # asked again: all of it is under way
    os.close(held)
    deadline = time.monotonic() + 120
    while any(run.alive() for run in made) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [arm.unfinished for arm in find(plan[0].study).arms] == [{}, {}]
