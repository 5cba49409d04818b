"""Paired comparison, against hand-made cases and statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from imgcls.errors import DataError
from imgcls.evaluate import compare
from imgcls.evaluate.predictions import Predictions
from tests.making import untrained_run


def answers(run, predicted, true, classes=3, **changes) -> Predictions:
    fields = {
        "run": run,
        "dataset": "data",
        "split": "test",
        "classes": tuple(f"class {i}" for i in range(classes)),
        "logits": (np.eye(classes)[np.asarray(predicted, np.int64)] * 3).astype(np.float32),
        "labels": np.asarray(true, np.int64),
        "indices": np.arange(len(true)),
    }
    return Predictions(**fields | changes)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (3, 9), (12, 12), (40, 75), (0, 30)])
def test_mcnemar_is_that_of_statsmodels(only_a, only_b):
    table = [[100, only_a], [only_b, 50]]

    assert compare.mcnemar(only_a, only_b) == pytest.approx(
        reference_mcnemar(table, exact=True).pvalue, rel=1e-9
    )


def test_two_runs_that_never_disagree_are_not_told_apart():
    assert compare.mcnemar(0, 0) == 1.0


def test_holm_is_that_of_statsmodels():
    values = [0.04, 0.001, 0.03, 0.5, 0.012, 0.9]

    assert compare.holm(values) == pytest.approx(multipletests(values, method="holm")[1].tolist())


def test_the_interval_is_bonett_and_prices():
    low, high = compare.difference_interval(5, 15, 100)

    # By hand: 16/102 - 6/102 = 0.0980; sqrt((22/102 - 0.0980²) / 102) = 0.04495; times 1.95996
    assert (low, high) == (pytest.approx(0.00993, abs=2e-5), pytest.approx(0.18615, abs=2e-5))


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(2000):  # a tenth of 300 images right in A alone, a fifteenth in B alone
        only_a, only_b, _ = draw.multinomial(300, [0.10, 1 / 15, 1 - 0.10 - 1 / 15])
        low, high = compare.difference_interval(int(only_a), int(only_b), 300)
        held += low <= 1 / 15 - 0.10 <= high
    assert 0.935 < held / 2000 < 0.97


def test_a_pair_counts_what_only_one_calls_right():
    a = answers("a", [0, 1, 2, 0, 0], [0, 1, 2, 2, 1])
    b = answers("b", [0, 0, 0, 2, 1], [0, 1, 2, 2, 1])

    (pair,) = compare.pairs([a, b])

    assert (pair.only_a, pair.only_b, pair.n, pair.difference) == (2, 2, 5, 0.0)
    assert pair.low < 0 < pair.high
    assert not pair.real


def test_a_large_difference_is_real_and_a_small_one_is_not():
    labels = np.zeros(1000, np.int64)
    base = answers("base", np.arange(1000) % 10 == 0, labels)
    worse = answers("worse", np.arange(1000) % 5 == 0, labels)
    near = answers("near", np.arange(1000) % 10 == 1, labels)  # other mistakes, as many

    found = {(p.a, p.b): p for p in compare.pairs([base, worse, near])}

    assert found["base", "worse"].real
    assert found["base", "worse"].difference == pytest.approx(-0.1)
    assert not found["base", "near"].real
    assert found["base", "near"].p_holm >= found["base", "near"].p


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "other"}, "the same images"),
        ({"split": "validation"}, "alike"),
        ({"tta": True}, "alike"),
        ({"indices": np.array([0, 2])}, "different test images"),
        ({"labels": np.array([1, 0])}, "different test images"),
    ],
)
def test_runs_judged_on_different_images_are_refused(change, word):
    a = answers("a", [0, 1], [0, 1])

    with pytest.raises(DataError, match=word):
        compare.pairs([a, answers("b", [0, 1], [0, 1], **change)])


def test_one_run_alone_is_refused():
    with pytest.raises(DataError, match="2 to 12 different runs"):
        compare.pairs([answers("a", [0], [0])])


def test_recalls_of_a_class_without_image_are_unknown():
    a, b = answers("a", [0, 1, 1], [0, 0, 1]), answers("b", [0, 0, 0], [0, 0, 1])

    found = compare.recalls([a, b])

    assert found[:, :2].tolist() == [[0.5, 1.0], [1.0, 0.0]]
    assert np.isnan(found[:, 2]).all()


def test_what_only_one_calls_right_comes_with_the_surest_mistakes_of_the_other_first():
    a = answers("a", [0, 0, 0], [0, 0, 0])
    b = answers("b", [1, 1, 0], [0, 0, 0])
    b.logits[1] *= 5

    assert compare.only_right(a, b).tolist() == [1, 0]
    assert compare.only_right(b, a).tolist() == []


def test_a_run_that_learned_from_the_images_is_not_held_against_one_that_did_not(tiny_dataset):
    apart, whole = untrained_run(), untrained_run(train_on="train+validation")

    compare.check_fair([apart, whole], "test")
    compare.check_fair([apart, apart], "validation")
    compare.check_fair([apart, whole], "train")  # both did
    with pytest.raises(DataError, match=f"{whole.id} learned"):
        compare.check_fair([apart, whole], "validation")
    compare.check_fair([apart, untrained_run(recipe="imported")], "test")  # nobody knows
