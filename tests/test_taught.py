"""Classes taught from a few pictures: near enough to them, and no nearer to a known one."""

import numpy as np
import pytest

from imgcls import feedback, predict, runs, taught
from imgcls.errors import ModelError
from imgcls.evaluate import predictions
from tests.making import judged_run, png, untrained_run

WIDTH = 16


def images_of(direction, n, chance, noise=0.3, longest=5):
    """Features about a direction, of any length from 1 on."""
    points = np.eye(WIDTH)[direction] + noise * chance.standard_normal((n, WIDTH)) / WIDTH**0.5
    return (points * chance.uniform(1, longest, (n, 1))).astype(np.float16)


@pytest.fixture
def chance():
    return np.random.default_rng(0)


@pytest.fixture
def known(chance):
    """200 images of each of three classes."""
    features = np.concatenate([images_of(i, 200, chance) for i in range(3)])
    return taught.Known(features, np.repeat(np.arange(3), 200))


def test_a_new_class_is_recognised_from_five_pictures_and_known_ones_stay(known, chance):
    told = taught.fit(known, {"zebra": images_of(3, 5, chance), "yak": images_of(4, 5, chance)})

    zebras, yaks, others = (
        told.say(features.astype(np.float32))
        for features in (images_of(3, 50, chance), images_of(4, 50, chance), known.features)
    )

    assert all(one.is_new and one.name == "zebra" for one in zebras)
    assert all(one.is_new and one.name == "yak" for one in yaks)
    assert 0.04 < np.mean([one.is_new for one in others]) <= 0.05
    assert max(one.share for one in zebras) < 0.01


def test_a_share_of_the_known_images_is_as_much_like_it_as_is_said(known, chance):
    told = taught.fit(known, {"zebra": images_of(3, 5, chance)})

    shares = [one.share for one in told.say(known.features.astype(np.float32))]

    assert np.allclose(np.sort(shares), (np.arange(600) + 2) / 601)


def test_images_that_a_model_learned_from_say_what_is_to_be_expected_of_others(chance):
    """Those lie closer to the means of their classes than others do."""
    learned, others, unseen = (
        np.concatenate([images_of(i, 300, chance, noise, longest=1) for i in range(3)])
        for noise in (0.2, 0.3, 0.3)
    )
    labels = np.repeat(np.arange(3), 300)
    few = images_of(0, 5, chance) / 2 + images_of(3, 5, chance) / 2
    naive = taught.fit(taught.Known(learned, labels), {"zebra": few})
    margins = naive.margin(others.astype(np.float32)).max(1)
    shares = (np.bincount(naive.above(margins), minlength=901).cumsum() + 1) / 901

    told = taught.fit(taught.Known(learned, labels, shares), {"zebra": few})
    called = [
        np.mean([one.is_new for one in fitted.say(unseen.astype(np.float32))])
        for fitted in (naive, told)
    ]

    assert called[0] > 0.08
    assert 0.03 < called[1] < 0.07


def test_a_few_known_images_are_enough_to_tell_what_is_unlike_all_of_them(known, chance):
    few = taught.Known(known.features[::100], known.labels[::100])
    told = taught.fit(few, {"zebra": images_of(3, 5, chance)})

    assert all(one.is_new for one in told.say(images_of(3, 20, chance).astype(np.float32)))
    assert not any(one.is_new for one in told.say(few.features.astype(np.float32)))


def test_a_picture_without_a_direction_gets_a_finite_answer(known, chance):
    told = taught.fit(known, {"zebra": images_of(3, 5, chance)})

    assert np.array_equal(told.margin(told.center[None]), [[0.0]])
    assert 0 < told.say(told.center[None])[0].share <= 1


def test_what_was_kept_of_a_new_class_is_asked_at_once(tiny_dataset):
    run = judged_run(model="cnn")
    assert taught.new_classes(run) == {}
    for seed in range(3):
        feedback.keep("mine.png", png(seed), "noise")
    feedback.keep("mine.png", png(9), "red")

    assert taught.new_classes(run) == {"noise": 3}
    pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    before = taught.ask(run.id, pictures)
    feedback.keep("mine.png", png(0), "other")  # the same picture under another name

    assert [one.name for one in before] == ["noise"] * 4
    assert taught.new_classes(run) == {"noise": 2, "other": 1}
    assert {one.name for one in taught.ask(run.id, pictures)} <= {"noise", "other"}


def test_without_answers_to_known_images_nothing_can_be_taught(tiny_dataset):
    run = untrained_run(model="cnn")
    feedback.keep("mine.png", png(), "noise")

    assert taught.known_images(run) is None
    with pytest.raises(ModelError, match="cannot be taught"):
        taught.ask(run.id, np.zeros((1, 32, 32, 3), np.uint8))


def test_the_model_that_ships_can_be_taught_without_data(home):
    run = runs.shipped()
    for seed in range(5):
        feedback.keep("mine.png", png(seed), "noise")

    known = taught.known_images(run)
    cat = ("cat.jpg", (runs.ASSETS / "examples" / "cat.jpg").read_bytes())
    answers = predict.predict(run.id, [cat, ("noise.png", png(99))])
    said = taught.ask(run.id, np.stack([answer["seen"] for answer in answers]))

    assert len(known.features) == len(known.labels) == len(known.shares) - 1 == 1000
    assert set(known.labels) == set(range(10))
    assert [one.is_new for one in said] == [False, True]


def test_what_the_last_layer_sees_is_what_evaluation_stores(tiny_dataset):
    run = judged_run(model="cnn")
    stored = predictions.features(run, "validation")

    seen = predictions.see(run.id, predictions.pictures(run, "validation", np.arange(3)))

    assert np.allclose(seen.astype(float), stored[:3].astype(float), atol=2e-3)


def test_foreign_files_among_what_was_kept_are_passed_over(tiny_dataset):
    run = judged_run(model="cnn")
    folder = feedback.keep("mine.png", png(), "noise").path.parent
    (folder / "junk.png").write_bytes(b"junk")
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to(folder / "nowhere")

    (said,) = taught.ask(run.id, np.zeros((1, 32, 32, 3), np.uint8))

    assert said.name == "noise"
