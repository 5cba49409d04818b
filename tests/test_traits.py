"""Traits of images and the mistakes that go with them, on images made to have them."""

import numpy as np
import pytest
from scipy.stats import chi2

from imgcls.data import catalog
from imgcls.evaluate import predictions, traits
from tests.making import untrained_run


def flat(level, count=1, size=8):
    return np.full((count, size, size, 3), level, np.uint8)


def measured(images):
    return traits.measure(images, np.arange(len(images)))


def test_brightness_is_mean_luma():
    images = np.concatenate([flat(0), flat(255), flat(51)])
    images[2, ..., 1:] = 0  # a fifth of full red

    assert measured(images)["brightness"] == pytest.approx([0, 1, 0.2 * 0.299])


def test_contrast_is_the_standard_deviation_of_luma():
    image = flat(0)
    image[:, :4] = 255

    assert measured(image)["contrast"] == pytest.approx([0.5])


def test_a_blurred_image_is_less_sharp():
    checks = flat(0, size=16)
    checks[:, ::2, ::2] = checks[:, 1::2, 1::2] = 200
    ramp = flat(0, size=16)
    ramp[0] = (10 * np.arange(16))[:, None, None]

    sharpness = measured(np.concatenate([checks, ramp]))["sharpness"]
    assert sharpness[0] > 1
    assert sharpness[1] == pytest.approx(0, abs=1e-6)  # a Laplacian does not see a slope


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_a_margin_is_found_at_each_edge(edge):
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    image[0, 0, 0] = image[0, -1, -1] = 255  # corners that no neighbour resembles
    where = {
        "top": np.s_[:, :3], "bottom": np.s_[:, -3:],
        "left": np.s_[:, :, :3], "right": np.s_[:, :, -3:],
    }[edge]  # fmt: skip
    image[where] = 7

    assert measured(image)["margin"] == pytest.approx([3 / 8])


def test_a_plain_image_is_margin_all_over():
    assert measured(flat(9))["margin"] == [1.0]


def test_groups_are_of_equal_number_and_equal_values_stay_together():
    assert np.bincount(traits.groups(np.arange(100.0))).tolist() == [10] * 10
    assert traits.groups(np.zeros(50)).tolist() == [0] * 50
    many = traits.groups(np.repeat([0.0, 1.0, 2.0], [80, 10, 10]))
    assert np.bincount(many).tolist() == [80, 10, 10]


def test_p_is_that_of_pearsons_test_by_hand():
    images, wrong = np.array([50, 50]), np.array([10, 20])
    expected = np.array([[15, 15], [35, 35]])
    statistic = ((np.array([[10, 20], [40, 30]]) - expected) ** 2 / expected).sum()

    assert traits.alike(images, wrong) == pytest.approx(chi2.sf(statistic, 1))
    assert traits.alike(images, np.zeros(2, int)) == 1.0
    assert traits.alike(images, images) == 1.0


def test_a_shortcut_shows_and_stands_first():
    draw = np.random.default_rng(0)
    bright, sharp = draw.random(2000), draw.random(2000)
    wrong = draw.random(2000) < np.where(bright < 0.2, 0.5, 0.1)

    first, second = traits.by_trait({"sharpness": sharp, "brightness": bright}, wrong)

    assert (first.name, first.real) == ("brightness", True)
    assert first.rates[0] > 0.4 > 0.2 > first.rates[-1]
    assert (first.low <= first.rates).all()
    assert (first.rates <= first.high).all()
    assert first.images.sum() == 2000
    assert first.wrong.sum() == wrong.sum()
    assert not second.real


def test_chance_is_called_real_about_as_rarely_as_said():
    draw = np.random.default_rng(1)
    called = [
        any(
            one.real
            for one in traits.by_trait(
                {name: draw.random(500) for name in ("brightness", "contrast", "sharpness")},
                draw.random(500) < 0.2,
            )
        )
        for _ in range(300)
    ]

    assert np.mean(called) < 0.08  # 0.05 for all traits together


def test_a_trait_that_all_images_share_is_left_out():
    assert traits.by_trait({"margin": np.zeros(30)}, np.arange(30) < 3) == []


def test_a_run_is_judged_by_the_traits_of_its_own_images(tiny_dataset):
    run = untrained_run()
    predictions.compute(run.id, "validation")
    answers = predictions.load(run, "validation")

    rows, found = traits.of_run(run, answers)

    assert rows.tolist() == list(range(len(answers.labels)))
    images = predictions.pictures(run, "validation", rows)
    by_name = {one.name: one for one in found}
    assert "file size" not in by_name
    assert by_name["brightness"].values == pytest.approx(measured(images)["brightness"])
    assert by_name["brightness"].wrong.sum() == (~answers.correct).sum()


def test_sizes_of_files_are_those_of_the_import(tiny_dataset):
    lines = [f"test,{29 - i},{i}.jpg,red,{1000 + i},32,32,RGB,JPEG,0" for i in range(30)]
    table = catalog.path("tiny") / "images.csv"
    table.write_text("\n".join([",".join(catalog.IMAGE_COLUMNS), *lines]), encoding="utf-8")

    assert traits.file_sizes("tiny", "test").tolist() == [1029 - i for i in range(30)]
    assert traits.file_sizes("tiny", "train") is None

    table.write_text(
        "\n".join([",".join(catalog.IMAGE_COLUMNS), *lines[:9], *lines[10:]]), encoding="utf-8"
    )
    assert traits.file_sizes("tiny", "test") is None  # one is missing: which belongs to which?
