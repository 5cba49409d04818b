"""Calibration, against hand-made cases and scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as reference_log_loss

from imgcls.errors import DataError
from imgcls.evaluate import calibrate


@pytest.fixture
def noisy():
    """Logits that are twice as sure as they should be, and labels, drawn from half of them."""
    draw = np.random.default_rng(0)
    honest = draw.normal(size=(20_000, 4)) * 1.5
    shares = calibrate.scaled(honest.astype(np.float32), 1.0)
    labels = (draw.random((len(shares), 1)) > shares.cumsum(1)).sum(1)
    return (2 * honest).astype(np.float32), labels.clip(max=3)


def test_bins_are_those_of_scikit_learn(noisy):
    shares, labels = calibrate.scaled(noisy[0], 1.0), noisy[1]

    found = calibrate.reliability(shares, labels, bins=10)

    accuracy, confidence = calibration_curve(
        shares.argmax(1) == labels, shares.max(1), n_bins=10, strategy="uniform"
    )
    filled = found.counts > 0
    assert found.accuracy[filled] == pytest.approx(accuracy)
    assert found.confidence[filled] == pytest.approx(confidence)
    assert found.counts.sum() == len(labels)


def test_calibration_errors_by_hand():
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])

    found = calibrate.reliability(shares, labels, bins=5)

    # (0.8, 1.0] holds two of confidence 0.9 and accuracy 0.5; (0.6, 0.8] one of 0.8 that is right;
    # (0.4, 0.6] one of 0.6 that is right.
    assert found.ece == pytest.approx((2 * 0.4 + 0.2 + 0.4) / 4)
    assert found.mce == pytest.approx(0.4)
    assert np.isnan(found.accuracy[:2]).all()


def test_brier_is_that_of_scikit_learn(noisy):
    shares, labels = calibrate.scaled(noisy[0], 1.0), noisy[1]

    expected = brier_score_loss(labels, shares, labels=range(4), scale_by_half=False)
    assert calibrate.brier(shares, labels) == pytest.approx(expected)


def test_log_loss_is_that_of_scikit_learn(noisy):
    expected = reference_log_loss(noisy[1], calibrate.scaled(noisy[0], 3.0))

    assert calibrate.log_loss(*noisy, 3.0) == pytest.approx(expected)


def test_the_temperature_undoes_what_made_logits_too_sure(noisy):
    assert calibrate.temperature(*noisy) == pytest.approx(2.0, rel=0.05)


def test_no_other_temperature_has_less_log_loss(noisy):
    best = calibrate.temperature(*noisy)

    grid = [calibrate.log_loss(*noisy, t) for t in np.geomspace(0.5, 5, 200)]
    assert calibrate.log_loss(*noisy, best) <= min(grid) + 1e-9


def test_a_temperature_leaves_each_answer_and_mends_calibration(noisy):
    logits, labels = noisy
    before = calibrate.scaled(logits, 1.0)
    after = calibrate.scaled(logits, calibrate.temperature(logits, labels))

    assert (before.argmax(1) == after.argmax(1)).all()
    assert calibrate.reliability(after, labels).ece < 0.02
    assert calibrate.reliability(before, labels).ece > 0.05


def test_a_model_without_mistakes_gets_the_end_of_the_scale():
    logits = np.eye(3, dtype=np.float32)[[0, 1, 2]]

    assert calibrate.temperature(logits, np.array([0, 1, 2])) == pytest.approx(0.05, rel=0.01)


def test_answering_only_when_sure_by_hand():
    shares = np.array([[0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 1])

    thresholds, coverage, risk = calibrate.risk_coverage(shares, labels)

    assert thresholds.tolist() == [0.9, 0.7, 0.6]  # two equally sure ones come together
    assert coverage.tolist() == [0.25, 0.75, 1.0]
    assert risk == pytest.approx([0.0, 1 / 3, 1 / 4])


def test_all_answered_is_the_error_rate(noisy):
    shares, labels = calibrate.scaled(noisy[0], 1.0), noisy[1]

    _, coverage, risk = calibrate.risk_coverage(shares, labels)

    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx((shares.argmax(1) != labels).mean())


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_conformal_sets_hold_the_true_label_as_often_as_asked(noisy, coverage):
    shares, labels = calibrate.scaled(noisy[0], 1.0), noisy[1]
    held, judged = slice(0, 5000), slice(5000, None)

    found = calibrate.conformal(
        shares[held], labels[held], shares[judged], labels[judged], coverage
    )

    assert found.coverage == pytest.approx(coverage, abs=0.015)
    assert 1 <= found.size < 4


def test_too_few_held_out_images_put_every_label_in():
    shares = np.array([[0.6, 0.4], [0.7, 0.3]])

    found = calibrate.conformal(shares, np.array([0, 0]), shares, np.array([0, 1]), 0.9)

    assert (found.threshold, found.coverage, found.size) == (0.0, 1.0, 2.0)


def test_a_coverage_that_cannot_be_had_is_refused():
    shares = np.array([[0.6, 0.4]])

    with pytest.raises(DataError, match="between 0 and 1"):
        calibrate.conformal(shares, np.array([0]), shares, np.array([0]), 1.0)


@pytest.mark.parametrize("classes", [3, 20, 100, 1000])
def test_a_model_that_knows_nothing_names_every_class_and_never_none(classes):
    shares = np.full((50, classes), 1 / classes)
    labels = np.arange(50) % classes

    found = calibrate.conformal(shares, labels, shares, labels, 0.9)

    assert (found.coverage, found.empty, found.size) == (1.0, 0.0, classes)


def test_overconfidence_has_the_interval_of_a_mean_difference():
    draw = np.random.default_rng(0)
    right = draw.random((2000, 400)) < 0.8

    # Of a model that is 80 % sure and as often right, about one interval in twenty misses zero.
    spans = [calibrate.overconfidence(np.full(400, 0.8), one) for one in right]
    missed = np.mean([not low <= 0 <= high for low, high in spans])
    assert 0.03 < missed < 0.07

    low, _ = calibrate.overconfidence(np.full(400, 0.95), right[0])
    assert low > 0.05
    assert calibrate.overconfidence(np.array([0.9]), np.array([True])) == (-1.0, 1.0)
