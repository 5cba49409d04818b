import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from imgcls.config import TrainConfig
from imgcls.data import augment, tensors

ALL = {
    "flip": True,
    "crop_pad": 4,
    "rotation": 15.0,
    "color_jitter": 0.3,
    "noise": 0.05,
    "cutout": 8,
}


@pytest.fixture
def images():
    return torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8, generator=seeded(1))


def seeded(seed):
    return Generator().manual_seed(seed)


def test_without_augmentation_only_the_type_changes(images):
    assert torch.equal(augment.augment(images, TrainConfig(), seeded(0)), tensors.to_floats(images))


@pytest.mark.parametrize("name", ALL)
def test_each_kind_changes_images_and_keeps_shape_and_range(images, name):
    changed = augment.augment(images, TrainConfig(**{name: ALL[name]}), seeded(0))

    assert changed.shape == (16, 3, 32, 32)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not torch.equal(changed, tensors.to_floats(images))


def test_an_equal_generator_gives_an_equal_batch(images):
    first, again, other = (
        augment.augment(images, TrainConfig(**ALL), seeded(seed)) for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_flipped_image_is_the_original_or_its_mirror(images):
    flipped = augment.augment(images, TrainConfig(flip=True), seeded(0)).permute(0, 2, 3, 1)
    images = images / 255

    mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(flipped, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 0 < sum(mirrored) < 16


def test_a_shift_equals_numpys_reflecting_pad_and_crop(images):
    shifted = augment.shift(images, 3, seeded(0))

    for after, before in zip(shifted.numpy(), images.numpy(), strict=True):
        padded = np.pad(before, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        crops = [padded[y : y + 32, x : x + 32] for y in range(7) for x in range(7)]
        assert any(np.array_equal(after, crop) for crop in crops)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(2, 9), pad=st.integers(1, 40))
def test_a_shift_never_leaves_the_image(size, pad):
    image = torch.arange(size * size * 3, dtype=torch.uint8).view(1, size, size, 3)

    shifted = augment.shift(image, pad, seeded(size * 100 + pad))

    assert set(shifted.flatten().tolist()) <= set(image.flatten().tolist())


def test_a_rotation_keeps_the_centre_and_turns_by_its_angle():
    image = torch.zeros(1, 3, 33, 33)
    image[:, :, 16, 16:] = 1  # a hand that points to three o'clock

    turned = augment.rotate(image.repeat(64, 1, 1, 1), 90.0, seeded(0))

    assert turned[:, 0, 16, 16].min() > 0.9
    assert (turned[:, 0, 0:12].amax((1, 2)) > 0.3).any()  # some point upwards
    assert (turned[:, 0, 21:].amax((1, 2)) > 0.3).any()  # and some down


def test_a_cutout_is_a_grey_square_of_its_side():
    cut = augment.cutout(torch.zeros(200, 3, 32, 32), 8, seeded(0))

    holes = (cut == 0.5).all(1).sum((1, 2))
    assert holes.max() == 64
    assert holes.min() >= 16  # a quarter, where the centre is a corner


def test_a_preview_is_what_training_makes(images):
    pixels = images[0].numpy()

    draws = augment.preview(pixels, TrainConfig(flip=True), 8, seed=3)

    assert draws.shape == (8, 32, 32, 3)
    assert all(np.array_equal(d, pixels) or np.array_equal(d, pixels[:, ::-1]) for d in draws)


def test_normalization_matches_its_formula(images):
    out = tensors.normalize(images, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))

    expected = (images.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).double()) / torch.tensor(
        [0.5, 0.25, 2.0]
    ).double()
    assert torch.allclose(out.double(), expected.permute(0, 3, 1, 2), atol=1e-6)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_normalization_is_the_same_whatever_the_order_in_memory():
    images = torch.rand(2, 3, 5, 7, generator=Generator().manual_seed(0))
    lines = images.clone(memory_format=torch.channels_last)
    planes = images.clone(memory_format=torch.contiguous_format)

    of_lines, of_planes = (
        tensors.standardize(each, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)) for each in (lines, planes)
    )

    assert torch.equal(of_lines, of_planes)
    assert of_lines.data_ptr() == lines.data_ptr()  # in place
