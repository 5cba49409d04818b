"""Figures with intervals, against scikit-learn, statsmodels and known distributions."""

import numpy as np
import pytest
from sklearn import metrics as reference
from statsmodels.stats.proportion import proportion_confint

from imgcls.evaluate import intervals
from imgcls.evaluate.predictions import Predictions


def predictions(logits, labels) -> Predictions:
    logits = np.asarray(logits, np.float32)
    names = tuple(f"class {i}" for i in range(logits.shape[1]))
    labels = np.asarray(labels, np.int64)
    return Predictions("run", "data", "test", names, logits, labels, np.arange(len(labels)))


@pytest.fixture(scope="module")
def noisy() -> Predictions:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 6, 500)
    return predictions(draw.normal(size=(500, 6)) + 1.5 * np.eye(6)[labels], labels)


def test_overall_figures_are_those_of_scikit_learn(noisy):
    found = intervals.estimates(noisy)[0].set_index("figure")["value"]

    labels, predicted = noisy.labels, noisy.predicted
    assert found["accuracy"] == reference.accuracy_score(labels, predicted)
    for k in (2, 3, 5):
        assert found[f"top-{k} accuracy"] == pytest.approx(
            reference.top_k_accuracy_score(labels, noisy.logits, k=k)
        )
    expected = {
        "balanced accuracy": reference.balanced_accuracy_score(labels, predicted),
        "macro precision": reference.precision_score(labels, predicted, average="macro"),
        "weighted precision": reference.precision_score(labels, predicted, average="weighted"),
        "macro F1": reference.f1_score(labels, predicted, average="macro"),
        "weighted F1": reference.f1_score(labels, predicted, average="weighted"),
        "Cohen's kappa": reference.cohen_kappa_score(labels, predicted),
        "log loss, nats": reference.log_loss(labels, noisy.probabilities),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name


def test_figures_a_class_are_those_of_scikit_learn(noisy):
    found = intervals.estimates(noisy)[1]

    precision, recall, f1, support = reference.precision_recall_fscore_support(
        noisy.labels, noisy.predicted
    )
    assert found["precision"].tolist() == pytest.approx(precision.tolist())
    assert found["recall"].tolist() == pytest.approx(recall.tolist())
    assert found["F1"].tolist() == pytest.approx(f1.tolist())
    assert found["support"].tolist() == support.tolist()
    areas = reference.roc_auc_score(
        noisy.labels, noisy.probabilities, multi_class="ovr", average=None
    )
    assert found["AUC"].tolist() == pytest.approx(areas.tolist())


def test_recall_has_the_wilson_interval_of_statsmodels(noisy):
    row = intervals.estimates(noisy)[1].iloc[2]

    of = noisy.labels == 2
    right = int((noisy.predicted[of] == 2).sum())
    expected = proportion_confint(right, int(of.sum()), method="wilson")
    assert (row["recall low"], row["recall high"]) == pytest.approx(expected)


def test_every_figure_lies_in_its_interval(noisy):
    overall, classes = intervals.estimates(noisy)

    assert ((overall["low"] < overall["value"]) & (overall["value"] < overall["high"])).all()
    for name in ("precision", "recall", "F1", "AUC"):
        assert (classes[f"{name} low"] < classes[name]).all()
        assert (classes[name] < classes[f"{name} high"]).all()


def test_bootstrap_intervals_are_as_wide_as_the_figure_scatters():
    draw = np.random.default_rng(1)
    values, widths = [], []
    for _ in range(60):
        labels = draw.integers(0, 3, 300)
        some = predictions(draw.normal(size=(300, 3)) + np.eye(3)[labels], labels)
        row = intervals.estimates(some)[0].set_index("figure").loc["macro F1"]
        values.append(row["value"])
        widths.append(row["high"] - row["low"])
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(values), rel=0.25)


def test_the_error_of_auc_is_that_of_hanley_and_mcneils_example():
    # Their table II: an area of 0.893 from 51 abnormal and 58 normal pictures, error 0.032.
    assert intervals.auc_error(0.893, 51, 58) == pytest.approx(0.032, abs=6e-4)


def test_the_interval_of_auc_is_so_many_errors_wide(noisy):
    found = intervals.estimates(noisy)[1]

    for area, low, high, ours in zip(
        found["AUC"], found["AUC low"], found["AUC high"], found["support"], strict=True
    ):
        half = 1.959964 * intervals.auc_error(area, ours, 500 - ours)
        assert (area - low, high - area) == pytest.approx((half, half))


def test_a_perfect_ranking_of_few_images_has_no_interval_rather_than_a_certain_one():
    found = intervals.estimates(predictions([[5, 0], [4, 0], [0, 5]], [0, 0, 1]))[1]

    assert found["AUC"].tolist() == [1, 1]
    assert found["AUC low"].isna().all()
    assert found["F1 low"].isna().all()


def test_equally_likely_classes_come_in_their_order():
    found = intervals.estimates(predictions(np.zeros((6, 6)), range(6)))[0]

    shares = found.set_index("figure")["value"]
    assert [shares[f"top-{k} accuracy"] for k in (2, 3, 5)] == pytest.approx([2 / 6, 3 / 6, 5 / 6])
    assert shares["accuracy"] == pytest.approx(1 / 6)


def test_what_is_undefined_is_nan():
    found = intervals.estimates(predictions([[2, 1, 0], [2, 1, 0], [2, 1, 0]], [0, 0, 1]))[1]

    assert np.isnan(found.loc[2, ["precision", "recall", "F1", "AUC", "AUC low"]].tolist()).all()
    assert np.isnan(found.loc[1, "precision"])
    assert found.loc[1, "recall"] == 0


def test_one_image_and_one_class_give_no_error():
    overall = intervals.estimates(predictions([[1.0, 0.0]], [0]))[0].set_index("figure")

    assert overall.loc["accuracy", "value"] == 1
    assert np.isnan(overall.loc["Cohen's kappa", "value"])
    assert np.isnan(overall.loc["log loss, nats", "low"])
