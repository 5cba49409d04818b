"""How far a model may be believed: fitted on some images, held against others."""

import json

import numpy as np
import pytest
from scipy.special import softmax

from imgcls import trust
from imgcls.errors import RunError
from imgcls.evaluate import belief, calibrate, predictions
from tests.making import untrained_run


def drawn(n, seed, classes=4, side=32):
    """Smooth coloured images, with answers that are too sure by a factor of two."""
    chance = np.random.default_rng(seed)
    small = chance.uniform(40, 215, (n, 4, 4, 3))
    images = np.clip(small.repeat(side // 4, 1).repeat(side // 4, 2), 0, 255)
    images += chance.normal(0, 8, images.shape)
    logits = chance.normal(0, 2, (n, classes))
    shares = softmax(logits, axis=1)
    labels = np.array([chance.choice(classes, p=row) for row in shares])
    return np.clip(images, 0, 255).astype(np.uint8), (2 * logits).astype(np.float32), labels


@pytest.fixture(scope="module")
def fitted():
    return belief.fit("images drawn here", *drawn(2000, 0))


def test_the_temperature_undoes_what_was_too_sure(fitted):
    assert fitted.temperature == pytest.approx(2, rel=0.1)
    assert fitted.n == 2000


def test_known_images_pass_as_often_as_asked_for(fitted):
    images, logits, _ = drawn(4000, 1)

    passed = fitted.known(images, calibrate.scaled(logits, fitted.temperature)).mean()

    assert abs(passed - belief.PASSING) < 0.015


def test_strange_pictures_do_not_pass_however_sure_the_model_is(fitted):
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    sure = np.tile([1.0, 0.0, 0.0, 0.0], (50, 1))

    assert not fitted.known(noise, sure).any()
    assert not fitted.known(np.full((1, 32, 32, 3), 255, np.uint8), sure[:1]).any()


def test_doubt_adds_to_strangeness(fitted):
    images, logits, _ = drawn(100, 2)
    shares = calibrate.scaled(logits, fitted.temperature)
    unsure = np.full_like(shares, 0.25)

    assert (fitted.unlikeness(images, unsure) >= fitted.unlikeness(images, shares)).all()


def test_label_sets_hold_the_true_label_as_often_as_asked_for(fitted):
    _, logits, labels = drawn(4000, 3)
    sets = calibrate.scaled(logits, fitted.temperature) >= fitted.label_sets["0.9"]

    assert sets[np.arange(4000), labels].mean() == pytest.approx(0.9, abs=0.02)


def test_it_travels_as_json_and_answers_the_same(fitted):
    images, logits, _ = drawn(20, 4)
    again = trust.Trust.from_dict(json.loads(json.dumps(fitted.to_dict())))

    shares = calibrate.scaled(logits, fitted.temperature)
    assert np.array_equal(again.unlikeness(images, shares), fitted.unlikeness(images, shares))


@pytest.mark.parametrize("side", [8, 28, 33, 64])
def test_any_size_has_an_appearance_of_finite_numbers(side):
    images = np.zeros((3, side, side, 3), np.uint8)
    images[1] = 255
    images[2, ::2] = 90

    looks = trust.appearance(images)

    assert np.isfinite(looks).all()
    assert not np.allclose(looks[0], looks[1])


def test_the_energy_of_a_chequerboard_is_diagonal_and_of_the_finest_scale():
    board = np.indices((32, 32)).sum(0) % 2 * 255
    looks = trust.appearance(np.repeat(board[None, ..., None], 3, 3).astype(np.uint8))[0]

    detail = np.exp(looks[2:11]) - trust.FLOOR  # three directions at each of three scales
    assert detail[2] == pytest.approx(4, rel=1e-3)  # (1 - 0 - 0 + 1)²
    assert np.allclose(np.delete(detail, 2), 0, atol=1e-6)


def test_a_run_is_trusted_by_its_validation_images(tiny_dataset):
    run = untrained_run()
    assert belief.of_run(run) is None  # nothing is stored yet

    predictions.compute(run.id, "validation")
    found = belief.of_run(run)

    held = predictions.load(run, "validation")
    assert found.n == len(held.labels)
    assert found.temperature == calibrate.temperature(held.logits, held.labels)
    assert run.id in found.source


def test_a_run_that_learned_from_all_images_is_not_trusted(tiny_dataset):
    run = untrained_run(train_on="train+validation")
    predictions.compute(run.id, "validation")

    assert belief.of_run(run) is None


def test_what_came_with_a_run_and_is_damaged_is_told(tiny_dataset):
    run = untrained_run()
    run.trust_path.write_text("{")

    with pytest.raises(RunError, match=r"trust\.json is damaged"):
        belief.of_run(run)


def test_known_images_pass_also_where_few_told_what_is_usual():
    passed = []
    for seed in range(10):
        chance = np.random.default_rng(seed)
        pictures = chance.integers(0, 256, (520, 8, 8, 3), dtype=np.uint8)
        logits = chance.normal(size=(520, 3)).astype(np.float32)
        told = belief.fit("made", pictures[:20], logits[:20], chance.integers(0, 3, 20))
        shares = calibrate.scaled(logits[20:], told.temperature)
        passed.append(told.known(pictures[20:], shares).mean())

    assert np.mean(passed) > 0.9
