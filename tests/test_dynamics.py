"""What a run kept of its answers through the epochs, and what is computed from them."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from imgcls import answers as keeping
from imgcls.data import catalog
from imgcls.evaluate import dynamics
from imgcls.evaluate.dynamics import History
from tests.making import untrained_run
from tests.test_predictions import replace_dataset

VALIDATION = 6  # images of the tiny data set's 60


def history(logits, labels, epochs=None):
    logits = np.asarray(logits, np.float16)
    labels = np.asarray(labels)
    k = logits.shape[2]
    return History(
        "run",
        "data",
        tuple("abcdefgh"[:k]),
        tuple(epochs or range(1, len(logits) + 1)),
        logits,
        labels,
        np.arange(len(labels)),
    )


def drawn(epochs=5, images=200, classes=4):
    chance = np.random.default_rng(0)
    logits = chance.normal(size=(epochs, images, classes)) * [3, 2, 1, 0.5][:classes]
    return history(logits, chance.integers(0, classes, images))


def answers(value=0.0):
    return np.full((VALIDATION, 3), value, np.float16)


@pytest.mark.parametrize(
    ("epochs", "every", "most", "kept"),
    [
        (6, 1, 60, [1, 2, 3, 4, 5, 6]),
        (6, 1, 3, [1, 4, 6]),
        (10, 1, 3, [1, 6, 10]),
        (9, 2, 2, [2, 9]),  # evaluations end epochs 2, 4, 6, 8 and the last
    ],
)
def test_of_a_long_run_the_first_the_newest_and_some_between_are_kept(
    tiny_dataset, monkeypatch, epochs, every, most, kept
):
    monkeypatch.setattr(keeping, "MOST", most)
    run = untrained_run(epochs=epochs, eval_every=every)

    for epoch in range(1, epochs + 1):
        if epoch % every == 0 or epoch == epochs:
            keeping.keep(run, epoch, answers(epoch))

    assert run.answered_epochs() == kept
    assert [one[0, 0] for one in dynamics.load(run).logits] == kept


def test_large_answers_are_kept_less_often(tiny_dataset, monkeypatch):
    run = untrained_run(epochs=100)
    monkeypatch.setattr(keeping, "MOST_BYTES", 5 * answers().nbytes)

    assert keeping.stride(run.config, answers().nbytes) == 25
    assert keeping.stride(run.config, 10**9) == 100  # the first and the newest


def test_epochs_that_are_trained_again_replace_what_was_kept(tiny_dataset):
    run = untrained_run(epochs=4)
    for epoch in (1, 2, 3, 2):
        keeping.keep(run, epoch, answers(epoch))

    assert run.answered_epochs() == [1, 2]


def test_nothing_kept_is_no_history(tiny_dataset):
    assert dynamics.load(untrained_run()) is None


def test_answers_about_other_images_are_void(tiny_dataset):
    run = untrained_run()
    keeping.keep(run, 1, answers())
    assert dynamics.load(run) is not None

    replace_dataset()

    assert dynamics.load(run) is None


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_damaged_answers_are_no_history(tiny_dataset, damage):
    run = untrained_run()
    keeping.keep(run, 1, answers() if damage is not None else np.zeros((2, 3), np.float16))
    if damage is not None:
        run.answers_path(1).write_bytes(damage)

    assert dynamics.load(run) is None


def test_a_history_knows_its_images(tiny_dataset):
    run = untrained_run()
    keeping.keep(run, 1, answers())
    _, labels, held = catalog.select("tiny", "validation", 0.1, 0)

    found = dynamics.load(run)

    assert found.indices.tolist() == held.tolist()
    assert found.labels.tolist() == labels[held].tolist()


def test_matrices_are_those_of_scikit_learn():
    one = drawn()

    found = dynamics.confusions(one)

    for at in range(len(one.epochs)):
        expected = confusion_matrix(one.labels, one.logits[at].argmax(1), labels=range(4))
        assert np.array_equal(found[at], expected)


def test_a_class_without_images_has_no_recall():
    shares = dynamics.recalls(np.array([[[2, 2], [0, 0]]]))

    assert shares[0, 0] == 0.5
    assert np.isnan(shares[0, 1])


def test_maps_show_the_two_directions_of_largest_variance_of_the_last_epoch():
    one = drawn()
    last = one.logits[-1].astype(np.float64)
    variances = np.linalg.eigvalsh(np.cov(last.T))[::-1]

    found = dynamics.maps(one)

    assert found.shape == (5, 200, 2)
    assert found[-1].mean(0) == pytest.approx([0, 0], abs=1e-9)
    assert found[-1].var(0, ddof=1) == pytest.approx(variances[:2])
    # The same linear map for every epoch: solved for on the last, it must give the first.
    centred = last - last.mean(0)
    axes, *_ = np.linalg.lstsq(centred, found[-1], rcond=None)
    first = (one.logits[0].astype(np.float64) - last.mean(0)) @ axes
    assert found[0] == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize(("images", "classes"), [(1, 3), (5, 2)])
def test_maps_of_little_stay_flat(images, classes):
    found = dynamics.maps(history(np.zeros((2, images, classes)), [0] * images))

    assert found.shape == (2, images, 2)
    assert not found.any()


def test_cartography_by_hand():
    ln = np.log
    logits = [  # two images of class 0, after three epochs
        [[ln(0.8), ln(0.2)], [ln(0.1), ln(0.9)]],
        [[ln(0.4), ln(0.6)], [ln(0.3), ln(0.7)]],
        [[ln(0.9), ln(0.1)], [ln(0.2), ln(0.8)]],
    ]

    seen = dynamics.cartography(history(logits, [0, 0]))

    assert seen.confidence == pytest.approx([0.7, 0.2], abs=1e-3)
    assert seen.variability == pytest.approx([0.2160, 0.0816], abs=1e-3)
    assert seen.correct == pytest.approx([2 / 3, 0])
    assert seen.forgotten.tolist() == [1, 0]


def test_one_images_probabilities_add_up_to_one_in_every_epoch():
    shares = drawn().probabilities(3)

    assert shares.shape == (5, 4)
    assert shares.sum(1) == pytest.approx(np.ones(5))


def test_answers_that_are_no_numbers_are_no_history(tiny_dataset):
    run = untrained_run()
    keeping.keep(run, 1, answers(1.0))
    assert dynamics.load(run) is not None

    keeping.keep(run, 2, answers(np.nan))

    assert dynamics.load(run) is None
