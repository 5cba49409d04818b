"""Corruptions against independent computations, and what is stored of a run under them."""

import colorsys
import shutil

import numpy as np
import pytest
import torch
from torch import Generator

from imgcls.errors import RunError
from imgcls.evaluate import predictions, robustness
from imgcls.evaluate.robustness import LEVELS, SEVERITIES, corrupted
from tests.making import save_model, untrained_run


def scene(n=4, side=32):
    """Smooth images with an edge, (n, 3, side, side): corruptions of noise alone would hide."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    waves = [torch.sin((x + i * y) / (4 + i)) + (x > side // 2) for i in range(3 * n)]
    return (torch.stack(waves).view(n, 3, side, side) * 60 + 80).round().byte()


def under(name, level, images=None, seed=0):
    images = scene() if images is None else images
    return corrupted(images, name, level, Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SEVERITIES)
def test_a_corruption_gets_worse_from_level_to_level_and_is_the_same_each_time(name):
    images = scene()
    distances = []
    for level in range(LEVELS):
        worse = under(name, level)
        assert (worse.dtype, worse.shape) == (torch.uint8, images.shape)
        assert torch.equal(worse, under(name, level))
        distances.append((worse.float() - images.float()).abs().mean().item())

    assert min(distances) > 0
    if name not in ("translation", "pixelation"):  # waves may fall on themselves again
        assert distances == sorted(set(distances))


def test_noise_has_the_standard_deviation_that_it_says():
    grey = torch.full((8, 3, 32, 32), 128, dtype=torch.uint8)

    noise = under("noise", 2, grey).float() / 255 - 128 / 255

    assert noise.std().item() == pytest.approx(SEVERITIES["noise"][2], rel=0.02)


def test_brightness_raises_the_value_of_a_colour_and_keeps_its_hue_and_saturation():
    colours = [(30, 60, 120), (200, 10, 10), (90, 90, 90), (0, 0, 0)]
    images = torch.tensor(colours, dtype=torch.uint8).view(4, 3, 1, 1)

    brighter = under("brightness", 3, images).flatten(1)

    for before, after in zip(colours, brighter.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in before))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + SEVERITIES["brightness"][3]))
        assert after == pytest.approx([round(255 * c) for c in expected], abs=1)


def test_contrast_draws_a_channel_towards_its_own_mean():
    worse = under("contrast", 4).double()
    images = scene().double()

    assert worse.mean((2, 3)) == pytest.approx(images.mean((2, 3)).numpy(), abs=0.6)
    assert worse.std((2, 3)) == pytest.approx(0.15 * images.std((2, 3)).numpy(), abs=0.5)


def test_translation_moves_whole_pixels_along_both_axes_either_way():
    images = scene(n=16)

    moved = under("translation", 1, images)

    ways = set()
    for before, after in zip(images, moved, strict=True):
        for sign in (1, -1):
            shifted = torch.zeros_like(before)
            if sign > 0:
                shifted[:, 4:, 4:] = before[:, :-4, :-4]
            else:
                shifted[:, :-4, :-4] = before[:, 4:, 4:]
            if torch.equal(after, shifted):
                ways.add(sign)
    assert ways == {1, -1}


def test_pixelation_repeats_pixels():
    coarse = under("pixelation", 4)

    columns = coarse.unique(dim=3).shape[3]
    assert columns <= int(32 * SEVERITIES["pixelation"][4])


@pytest.mark.usefixtures("tiny_dataset")
def test_what_is_stored_is_what_the_model_answers_under_each_corruption():
    run = untrained_run()
    predictions.compute(run.id, "test")

    robustness.compute(run.id, "test")
    found = robustness.load(run, "test")

    assert found.n == 30
    assert found.clean == predictions.load(run, "test").correct.mean()
    assert found.accuracy.shape == (len(SEVERITIES), LEVELS)
    assert found.mean == pytest.approx(found.accuracy.mean())
    judge = predictions.judge(run)
    images, labels, _ = predictions.judged_images(run, "test")
    block = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    worse = corrupted(block, "blur", 4, Generator())  # nothing random about it
    with torch.inference_mode():
        right = judge.answer(worse.permute(0, 2, 3, 1)).argmax(1).numpy() == labels
    assert found.accuracy[list(SEVERITIES).index("blur"), 4] == right.mean()


@pytest.mark.usefixtures("tiny_dataset")
def test_a_models_batches_change_nothing(monkeypatch):
    run = untrained_run()
    robustness.compute(run.id, "test")
    whole = robustness.load(run, "test").accuracy

    monkeypatch.setattr(predictions, "BATCH_PIXELS", 7 * 32 * 32)
    robustness.compute(run.id, "test")

    assert np.array_equal(robustness.load(run, "test").accuracy, whole)


@pytest.mark.usefixtures("tiny_dataset")
def test_another_model_voids_what_was_stored():
    run = untrained_run()
    assert robustness.load(run, "test") is None
    robustness.compute(run.id, "test")
    assert robustness.load(run, "test") is not None

    save_model(run, seed=1)

    assert robustness.load(run, "test") is None


@pytest.mark.usefixtures("tiny_dataset")
def test_progress_reaches_its_end():
    run, told = untrained_run(), []

    robustness.compute(run.id, "test", progress=lambda *said: told.append(said[:2]))

    assert told[-1][0] == told[-1][1] == 30 * (1 + len(SEVERITIES) * LEVELS)


@pytest.mark.usefixtures("tiny_dataset")
def test_a_run_deleted_while_it_is_judged_is_said(monkeypatch):
    run = untrained_run()

    def progress(done, total, text):
        if done == total:
            shutil.rmtree(run.path)

    with pytest.raises(RunError, match="was deleted while it was judged"):
        robustness.compute(run.id, "test", progress=progress)


@pytest.mark.usefixtures("tiny_dataset")
def test_one_image_is_shown_at_every_severity_with_its_answers():
    run = untrained_run()
    images, _, _ = predictions.judged_images(run, "test")

    versions, logits = robustness.series(run.id, images[0], "pixelation")

    assert versions.shape == (1 + LEVELS, 32, 32, 3)
    assert np.array_equal(versions[0], images[0])
    assert logits.shape == (1 + LEVELS, 3)
