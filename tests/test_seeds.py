"""Runs that differ in their seed alone."""

from datetime import timedelta

import pytest
from scipy import stats

from imgcls.evaluate import predictions, seeds
from imgcls.events import Ended
from tests.making import NOW, untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")


def finished(minute, state="finished", **settings):
    run = untrained_run(now=NOW + timedelta(minutes=minute), **settings)
    run.append(Ended(time=0.0, state=state, step=1, reason=""))
    return run


def test_siblings_differ_in_seed_and_study_alone():
    one, two = finished(0, seed=0), finished(1, seed=1, study="a study")
    finished(2, seed=2, epochs=9)
    finished(3, seed=3, state="failed")

    assert seeds.siblings(one) == [one, two]
    assert seeds.siblings(two) == [one, two]


def test_of_two_runs_of_one_seed_the_newer_counts_but_the_one_asked_for_always_does():
    old, new, other = finished(0, seed=0), finished(1, seed=0), finished(2, seed=1)

    assert seeds.siblings(other) == [new, other]
    assert seeds.siblings(old) == [old, other]


def test_an_unfinished_run_does_not_count():
    begun, done = untrained_run(seed=5), finished(1, seed=1)

    assert seeds.siblings(begun) == [done]


def test_a_spread_is_mean_standard_deviation_and_students_interval():
    told = [{"accuracy": value} for value in (0.89, 0.90, 0.92)]

    (spread,) = seeds.spreads(told)

    assert spread.values == (0.89, 0.90, 0.92)
    assert spread.mean == pytest.approx(2.71 / 3)
    assert spread.sd == pytest.approx(0.0152752523)
    assert spread.interval == pytest.approx(
        stats.t.interval(0.95, 2, loc=spread.mean, scale=spread.sd / 3**0.5)
    )


def test_seeds_that_agree_to_the_digit_have_no_interval():
    assert seeds.spreads([{"accuracy": 0.5}, {"accuracy": 0.5}])[0].interval is None


def test_figures_are_shares_and_nats():
    run = untrained_run()
    predictions.compute(run.id, "test")
    found = seeds.figures(predictions.load(run, "test"))

    assert found["accuracy"] == predictions.load(run, "test").correct.mean()
    assert found["log loss, nats"] > 0
    assert 0 <= found["expected calibration error"] <= 1
