"""Attacks against hand-computed ones, and what is stored of a run under them."""

import numpy as np
import pytest
import torch
import torch.nn as nn

from imgcls.evaluate import adversarial, predictions
from imgcls.evaluate.adversarial import EPSILONS
from imgcls.evaluate.predictions import Judge
from tests.making import save_model, untrained_run


@pytest.fixture
def judge():
    """A linear model of two pixels' worth: its gradient is known."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]))
    return Judge(model, (0.0,) * 3, (1.0,) * 3, torch.device("cpu"), 8)


def test_fgsm_of_a_linear_model_moves_each_pixel_against_its_weight(judge):
    pixels = torch.tensor([0.5, 0.5, 0.02]).view(1, 3, 1, 1)

    moved = adversarial.fgsm(judge, pixels, torch.tensor([0]), 0.1)

    # Class 0 gains by the weights, so harm lies on the other side; the last stops at black.
    assert moved.flatten().tolist() == pytest.approx([0.4, 0.6, 0.0])


def test_pgd_of_a_linear_model_ends_at_the_same_corner(judge):
    pixels = torch.tensor([0.5, 0.5, 0.5]).view(1, 3, 1, 1)

    moved = adversarial.pgd(judge, pixels, torch.tensor([0]), 0.1)

    assert moved.flatten().tolist() == pytest.approx([0.4, 0.6, 0.4])


@pytest.mark.parametrize("attack", [adversarial.fgsm, adversarial.pgd])
def test_no_pixel_moves_further_than_allowed_or_out_of_range(attack):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    judge = Judge(model, (0.5,) * 3, (0.2,) * 3, torch.device("cpu"), 8)
    pixels = torch.rand(5, 3, 8, 8)

    moved = attack(judge, pixels, torch.arange(5) % 4, 4 / 255)

    assert (moved - pixels).abs().max() <= 4 / 255 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_pgd_raises_the_loss_by_more_than_fgsm():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(128, 4)).eval()
    judge = Judge(model, (0.5,) * 3, (0.2,) * 3, torch.device("cpu"), 64)
    pixels, labels = torch.rand(64, 3, 8, 8), torch.arange(64) % 4

    with torch.no_grad():
        losses = [
            nn.functional.cross_entropy(judge.of_pixels(x), labels).item()
            for x in (
                pixels,
                *(a(judge, pixels, labels, 8 / 255) for a in (adversarial.fgsm, adversarial.pgd)),
            )
        ]

    assert losses[0] < losses[1] <= losses[2]


@pytest.mark.usefixtures("tiny_dataset")
def test_pixels_and_bytes_get_the_same_answer():
    run = untrained_run()
    images, _, _ = predictions.judged_images(run, "test")
    judge, some = predictions.judge(run), torch.from_numpy(np.array(images[:5]))

    with torch.no_grad():
        of_bytes, of_pixels = judge.answer(some), judge.of_pixels(some.permute(0, 3, 1, 2) / 255)

    assert torch.allclose(of_bytes, of_pixels, atol=1e-4)


@pytest.mark.usefixtures("tiny_dataset")
def test_what_is_stored_falls_with_epsilon_and_is_void_with_another_model(monkeypatch):
    monkeypatch.setattr(adversarial, "IMAGES", 20)
    run = untrained_run()
    predictions.compute(run.id, "test")
    assert adversarial.load(run, "test") is None

    adversarial.compute(run.id, "test")
    found = adversarial.load(run, "test")

    assert found.n == 20
    assert found.accuracy.shape == (2, len(EPSILONS))
    chosen = np.sort(np.random.default_rng(0).permutation(30)[:20])
    assert found.clean == predictions.load(run, "test").correct[chosen].mean()
    assert (found.accuracy[:, 0] <= found.clean).all()
    assert (np.diff(found.accuracy, axis=1) <= 0).all()  # a linear model has no way back
    save_model(run, seed=1)
    assert adversarial.load(run, "test") is None
