"""Where a model looks, against models of which it is known."""

import numpy as np
import pytest
import torch

from imgcls import models
from imgcls.evaluate import saliency
from tests.making import untrained_run

pytestmark = pytest.mark.usefixtures("tiny_dataset")


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def test_a_linear_model_looks_where_its_weights_times_the_picture_are_large():
    run = untrained_run(model="softmax")
    image = picture()

    found = saliency.maps(run.id, image, 1)

    model, card = models.load(run.model_path)
    weights = next(p for p in model.parameters() if p.ndim == 2)[1].detach().numpy()
    values = (image / 255 - np.array(card.mean)) / np.array(card.std)
    expected = (weights.reshape(3, 32, 32) * values.transpose(2, 0, 1)).sum(0)
    assert set(found) == {saliency.GRADIENTS, saliency.OCCLUSION}  # no convolution, no Grad-CAM
    assert found[saliency.GRADIENTS] == pytest.approx(expected / np.abs(expected).max(), abs=1e-3)
    # What a blanked square takes away is the sum of what stands there.
    assert np.corrcoef(found[saliency.OCCLUSION].ravel(), expected.ravel())[0, 1] > 0.1


@pytest.mark.parametrize("model", ["cnn", "resnet18", "mobilenet_v3_small"])
def test_each_method_gives_a_map_of_the_picture_and_changes_no_answer(model):
    run = untrained_run(model=model)
    image = picture()

    first, second = (saliency.maps(run.id, image, 0) for _ in range(2))

    assert set(first) == {saliency.GRAD_CAM, saliency.GRADIENTS, saliency.OCCLUSION}
    for name, values in first.items():
        assert values.shape == (32, 32)
        assert np.abs(values).max() == pytest.approx(1, abs=1e-5) or not values.any()
        assert np.array_equal(values, second[name])
    assert first[saliency.GRAD_CAM].min() >= 0


def test_another_class_is_seen_elsewhere():
    run = untrained_run(model="cnn")

    first, second = (saliency.maps(run.id, picture(), target) for target in (0, 1))

    assert not np.allclose(first[saliency.GRADIENTS], second[saliency.GRADIENTS])


@pytest.mark.parametrize(
    ("model", "side"), [("speed_net", 2), ("resnet18", 4), ("googlenet", 2), ("cnn", 4)]
)
def test_grad_cam_looks_at_the_last_map_with_all_its_branches(model, side):
    settings = untrained_run(model=model).config
    network = models.build(settings, 3, 32).eval()

    layer = saliency.last_map(network, torch.zeros(1, 3, 32, 32))

    shapes = []
    layer.register_forward_hook(lambda *args: shapes.append(args[2].shape))
    widest = 0
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    widest = max(p.shape[1] for p in network.parameters() if p.ndim == 2)
    assert shapes[0][-1] >= side
    assert shapes[0][1] <= widest  # what the head sees, not a part of it


def test_a_network_of_attention_has_no_map_of_places():
    run = untrained_run(model="vit_b_16", stem="imagenet", input_size=32)
    network = models.build(run.config, 3, 32).eval()

    assert saliency.last_map(network, torch.zeros(1, 3, 32, 32)) is None
