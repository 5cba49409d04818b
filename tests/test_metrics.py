"""Figures from predictions, against hand-made cases and scikit-learn."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as reference

from imgcls.evaluate import metrics
from imgcls.evaluate.predictions import Predictions


def predictions(logits, labels) -> Predictions:
    logits = np.asarray(logits, np.float32)
    labels = np.asarray(labels, np.int64)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    return Predictions("run", "data", "test", names, logits, labels, np.arange(len(labels)))


def answers(predicted, labels, classes: int) -> Predictions:
    """Predictions whose largest logit is the given class."""
    return predictions(np.eye(classes)[predicted] * 3, labels)


@pytest.fixture
def noisy() -> Predictions:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 5, 400)
    return predictions(draw.normal(size=(400, 5)) + 1.5 * np.eye(5)[labels], labels)


def test_accuracy_is_the_share_that_is_right():
    assert metrics.summary(answers([0, 1, 1, 0], [0, 1, 0, 0], 2)).accuracy == 0.75


def test_confusion_has_true_classes_as_rows_and_predicted_ones_as_columns():
    found = metrics.summary(answers([1, 1, 0], [0, 0, 1], 3))

    assert found.confusion.tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]


def test_loss_is_the_mean_negative_log_of_the_true_class_share():
    found = metrics.summary(predictions([[math.log(3), 0], [0, 0]], [0, 1]))

    assert found.loss == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)


def test_loss_stays_finite_where_a_probability_is_zero():
    assert metrics.summary(predictions([[0, 2000]], [0])).loss == 2000


def test_loss_is_that_of_scikit_learn(noisy):
    expected = reference.log_loss(noisy.labels, softmax(noisy.logits.astype(float), axis=1))

    assert metrics.summary(noisy).loss == pytest.approx(expected)


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_averages_are_those_of_scikit_learn(noisy, average):
    found = getattr(metrics.summary(noisy), average)
    expected = reference.precision_recall_fscore_support(
        noisy.labels, noisy.predicted, average=average
    )

    assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3])
    assert found.support == 400


def test_each_class_has_its_precision_recall_and_f1():
    # Class 0: 2 of 3 calls right, 2 of 4 found. F1 = 2·2/3·1/2 / (2/3 + 1/2) = 4/7.
    first = metrics.summary(answers([0, 0, 1, 1, 0], [0, 0, 0, 0, 1], 2)).per_class[0]

    assert (first.precision, first.recall, first.f1) == pytest.approx((2 / 3, 1 / 2, 4 / 7))
    assert first.support == 4


def test_precision_of_a_class_never_predicted_is_unknown_not_zero():
    row = metrics.summary(answers([0, 0], [0, 1], 2)).per_class[1]

    assert math.isnan(row.precision)
    assert (row.recall, row.f1) == (0, 0)


def test_recall_of_a_class_without_images_is_unknown_not_zero():
    row = metrics.summary(answers([0, 1], [0, 0], 2)).per_class[1]

    assert math.isnan(row.recall)
    assert (row.precision, row.support) == (0, 0)


def test_a_class_neither_there_nor_predicted_is_left_out_of_averages():
    found = metrics.summary(answers([0, 1], [0, 1], 3))

    assert math.isnan(found.per_class[2].f1)
    assert (found.macro.precision, found.macro.recall, found.macro.f1) == (1, 1, 1)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.255, 0.366),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(right, n, low, high):
    assert metrics.wilson_interval(right, n) == pytest.approx((low, high), abs=6e-4)


def test_the_interval_follows_the_formula_of_its_docstring():
    n, right, z = 10_000, 8_312, 1.959964
    p = right / n
    middle = p + z**2 / (2 * n)
    reach = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n))

    assert metrics.wilson_interval(right, n) == pytest.approx(expected)


@pytest.mark.parametrize("right", [0, 1])
def test_a_single_image_gives_an_interval_within_0_and_1(right):
    low, high = metrics.wilson_interval(right, 1)

    assert 0 <= low < high <= 1


def test_a_thousand_classes_with_few_images_give_figures_for_each():
    draw = np.random.default_rng(1)
    found = metrics.summary(answers(draw.integers(0, 1000, 300), draw.integers(0, 1000, 300), 1000))

    assert len(found.per_class) == 1000
    assert found.confusion.shape == (1000, 1000)
    assert found.confusion.sum() == 300


def test_the_table_holds_every_class_and_then_both_averages(noisy):
    table = metrics.report_table(metrics.summary(noisy))

    assert list(table["class"]) == [*noisy.classes, "macro average", "weighted average"]
    assert table["support"].iloc[-1] == 400


def test_confident_mistakes_come_most_confident_first():
    found = metrics.confident_mistakes(
        predictions([[3, 0], [9, 0], [5, 0], [9, 0]], [1, 0, 1, 1]), 2
    )

    assert found.tolist() == [3, 2]


def test_a_perfect_run_has_no_mistakes():
    assert len(metrics.confident_mistakes(answers([0, 1], [0, 1], 2), 10)) == 0


def test_a_sample_is_the_same_for_its_seed_and_repeats_no_image(noisy):
    first, again = metrics.sample(noisy, 50, seed=7), metrics.sample(noisy, 50, seed=7)

    assert first.tolist() == again.tolist()
    assert len(set(first.tolist())) == 50
    assert metrics.sample(noisy, 50, seed=8).tolist() != first.tolist()


def test_a_sample_of_more_than_there_are_is_all(noisy):
    assert sorted(metrics.sample(noisy, 10_000, seed=0).tolist()) == list(range(400))


def test_a_cell_lists_as_many_images_as_the_matrix_counts(noisy):
    confusion = metrics.summary(noisy).confusion

    for true in range(5):
        for predicted in range(5):
            rows = metrics.cell(noisy, true, predicted)
            assert len(rows) == confusion[true, predicted]
            assert set(noisy.labels[rows]) <= {true}
            assert set(noisy.predicted[rows]) <= {predicted}


def test_probabilities_of_huge_logits_add_up_to_one():
    found = predictions([[1e30, 0, -1e30], [-3e4, -3e4, -3e4]], [0, 0]).probabilities

    assert found.sum(1) == pytest.approx([1, 1])
    assert np.isfinite(found).all()


def test_similar_classes_stand_side_by_side():
    confusion = np.full((6, 6), 1)
    np.fill_diagonal(confusion, 80)
    for a, b in ((0, 3), (1, 5), (2, 4)):
        confusion[a, b] = confusion[b, a] = 30

    order = metrics.similarity_order(confusion).tolist()

    assert sorted(order) == list(range(6))
    assert {frozenset(order[i : i + 2]) for i in (0, 2, 4)} == {
        frozenset(pair) for pair in ((0, 3), (1, 5), (2, 4))
    }


@pytest.mark.parametrize("n", [1, 2, 7, 150])
def test_an_order_has_each_class_once_even_without_a_mistake(n):
    assert sorted(metrics.similarity_order(np.eye(n, dtype=np.int64)).tolist()) == list(range(n))


def test_the_classes_with_most_mistakes_count_both_ways():
    confusion = np.diag([9, 9, 9, 9])
    confusion[0, 2] = 5
    confusion[3, 1] = 2

    assert metrics.most_mistaken(confusion, 2).tolist() == [0, 2]
    assert metrics.most_mistaken(confusion, 9).tolist() == [0, 1, 2, 3]
