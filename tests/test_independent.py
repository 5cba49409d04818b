"""What is told of stored answers, against other people's code on the same logits."""

from datetime import timedelta

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from imgcls.evaluate import calibrate, compare, metrics, predictions
from tests.making import NOW, save_model, untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")


@pytest.fixture
def files():
    """Two runs' answers to all training images, as loaded and as they lie on disk."""
    found = []
    for seed in (0, 1):
        run = untrained_run(now=NOW + timedelta(minutes=seed))
        save_model(run, seed=seed)
        predictions.compute(run.id, "train")
        with np.load(run.predictions_path("train")) as file:
            found.append((predictions.load(run, "train"), file["logits"], file["labels"]))
    return found


def test_accuracy_and_its_wilson_bounds(files):
    for answers, logits, labels in files:
        found = metrics.summary(answers)
        right = int((logits.argmax(1) == labels).sum())
        assert found.accuracy == accuracy_score(labels, logits.argmax(1))
        assert (found.accuracy_low, found.accuracy_high) == pytest.approx(
            proportion_confint(right, len(labels), 0.05, "wilson")
        )


def test_f1_of_each_class_and_on_average(files):
    for answers, logits, labels in files:
        found = metrics.summary(answers)
        called = logits.argmax(1)
        each = f1_score(labels, called, average=None, labels=[0, 1, 2], zero_division=np.nan)
        assert [one.f1 for one in found.per_class] == pytest.approx(each, nan_ok=True)
        assert found.macro.f1 == pytest.approx(np.nanmean(each))


def test_expected_calibration_error(files):
    """Naeini and others 2015: |accuracy - confidence| a bin of equal width, weighted by images."""
    for answers, logits, labels in files:
        shares = softmax(logits.astype(float), axis=1)
        sure, right = shares.max(1), shares.argmax(1) == labels
        told = calibrate.errors(answers.logits, answers.labels, 1.0)
        bins = len(calibrate.reliability(shares, labels).counts)
        error = 0.0
        for i in range(bins):
            inside = [j for j, s in enumerate(sure) if i / bins < s <= (i + 1) / bins]
            if inside:
                error += len(inside) / len(sure) * abs(right[inside].mean() - sure[inside].mean())
        assert told.ece == pytest.approx(error)


def test_the_p_value_of_a_comparison(files):
    (a, logits_a, labels), (b, logits_b, _) = files
    right_a, right_b = logits_a.argmax(1) == labels, logits_b.argmax(1) == labels
    table = [
        [(right_a & right_b).sum(), (right_a & ~right_b).sum()],
        [(~right_a & right_b).sum(), (~right_a & ~right_b).sum()],
    ]

    (pair,) = compare.pairs([a, b])

    assert pair.only_a != pair.only_b
    assert pair.p == pytest.approx(mcnemar(table, exact=True).pvalue)
