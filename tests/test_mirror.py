"""The network that learns left and right as one, held against plain convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from imgcls import doctor, models, optim, recipes
from imgcls.config import IN_PAIRS, TrainConfig
from imgcls.models import mirror
from imgcls.models.mirror import MirrorConv, MirrorNet
from imgcls.models.speed import BLOCKS as BLOCKS_BY_NAME
from imgcls.models.speed import SpeedNet
from tests.test_models import card

BLOCKS = ((8, 12), (16, 8))
PAIRS = {"model": "speed_net", "flip": True, "mirror_pairs": True}


def network(blocks=BLOCKS):
    """In float64, with statistics and biases that are not as they were born."""
    torch.manual_seed(0)
    model = MirrorNet(3, blocks).double()
    model.look(images(40))
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1 and p.requires_grad:
                p.normal_(std=0.1)
    return model


def images(number, side=20, seed=1):
    shape = (number, 3, side, side)
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def features(number, channels, height, width):
    shape = (2 * number, channels // 2, height, width)
    return torch.randn(shape, generator=Generator().manual_seed(2), dtype=torch.float64)


def by_pairs(layer, given):
    """What a convolution with all filters makes of both features of each pair."""
    together = torch.cat(given.chunk(2), dim=1)
    return torch.cat(F.conv2d(together, layer.filters(), padding=1).chunk(2, dim=1))


@pytest.mark.parametrize("number", [1, 2, 7, 12, 50])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (15, 15), (4, 5), (2, 2), (1, 1)])
def test_half_of_the_arithmetic_gives_the_same_sums_and_gradients(number, height, width):
    torch.manual_seed(0)
    layer, given = MirrorConv(4, 6).double(), features(number, 4, height, width)
    outcomes = []
    for forward in (layer, lambda given: by_pairs(layer, given)):
        one = given.clone().requires_grad_()
        layer.zero_grad()
        result = forward(one)
        result.sin().sum().backward()
        outcomes.append((result.detach(), one.grad, layer.weight.grad.clone()))

    for ours, plain in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_batch_is_too_small_to_learn_from(number):
    model = MirrorNet(3, BLOCKS).to(memory_format=torch.channels_last)
    given = images(number).float().contiguous(memory_format=torch.channels_last)

    model.train()(given).square().sum().backward()

    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_kernels_have_half_of_the_multiplications():
    seen = []
    layer = MirrorConv(8, 12)
    with pytest.MonkeyPatch.context() as patch:
        real = F.conv2d
        patch.setattr(F, "conv2d", lambda x, w, **k: seen.append(w.numel()) or real(x, w, **k))
        layer(features(4, 8, 5, 5).float())

    assert sum(seen) == layer.filters().numel() / 2


def test_where_nothing_is_halved_the_plain_network_has_as_many_multiplications(monkeypatch):
    model = MirrorNet(10, BLOCKS_BY_NAME["speed_net"])
    halved = doctor.flops(model, 32)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)

    whole, plain = doctor.flops(model, 32), doctor.flops(models.answering(model), 32)

    assert whole == pytest.approx(plain, rel=1e-4)  # all but the head are the same
    assert halved < 0.7 * whole


@pytest.mark.parametrize(("number", "width"), [(500, 7), (250, 15), (499, 7), (1, 7), (6, 200)])
def test_images_that_lie_beside_each_other_divide_their_number_and_leave_two_rows(number, width):
    beside = mirror._beside(number, width)

    assert number % beside == 0
    assert beside == 1 or (beside * width <= mirror.ROW and number // beside >= 2)
    assert beside == {(500, 7): 10, (250, 15): 5}.get((number, width), 1)


@pytest.mark.parametrize("side", [20, 24, 32])
def test_the_plain_network_answers_the_same(side):
    model = network()
    model.train()(images(30, side))  # statistics move
    plain = model.eval().plain().double()

    with torch.no_grad():
        ours, theirs = model(images(5, side, seed=3)), plain(images(5, side, seed=3))

    assert type(plain) is SpeedNet
    assert not plain.training
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # plain() goes by float32


def test_a_picture_and_its_mirror_image_get_one_answer_where_no_pool_leaves_a_column_out():
    model, given = network(), images(6, side=33)  # 32, 16, 8

    one, other = (model.train()(x) for x in (given, given.flip(3)))

    torch.testing.assert_close(one, other)
    assert one.std() > 1e-3


def test_the_first_layer_whitens_images_and_their_mirror_images_alike():
    correlated = torch.randn(64, 1, 33, 33, generator=Generator().manual_seed(0))
    given = F.avg_pool2d(correlated, 2, 1).repeat(1, 3, 1, 1)
    given = given + 0.3 * torch.randn(given.shape, generator=Generator().manual_seed(1))
    model = MirrorNet(3, BLOCKS)

    model.look(given)

    filters = model.whiten.weight
    alone, ones, twins = filters.split((12, 6, 6))
    assert torch.equal(alone.flip(3), alone)
    assert torch.equal(ones.flip(3), twins)
    assert torch.equal(alone[6:], -alone[:6])
    assert torch.equal(twins, -ones)
    with torch.no_grad():
        both = torch.cat((given, given.flip(3)))
        seen = F.conv2d(both, torch.cat((alone[:6], ones))).double().transpose(0, 1).flatten(1)
    covariance = seen @ seen.T / seen.shape[1]
    assert (covariance - torch.eye(12)).abs().max() < 0.05


def test_what_is_saved_is_the_plain_network_that_its_card_names(tmp_path):
    settings = TrainConfig(**PAIRS, input_size=24)
    torch.manual_seed(0)
    model = models.build(settings, 7, 24)
    models.look(model, images(8, 24).float())
    file = tmp_path / "m.safetensors"

    models.save(file, model, card(settings, 24))

    loaded, _ = models.load(file)
    assert isinstance(loaded.network, SpeedNet)
    given = images(3, 30).float()
    with torch.no_grad():
        torch.testing.assert_close(loaded(given), model.eval()(given), rtol=1e-4, atol=1e-6)


def test_muon_turns_one_filter_of_each_pair():
    model = models.build(TrainConfig(**PAIRS), 10, 32)
    optimizer = optim.build(model, TrainConfig(optimizer="muon", peak_lr=0.1))
    hidden, others = (group["params"] for group in optimizer.param_groups)
    wanted = [model.first, *(m.weight for m in model.blocks if isinstance(m, MirrorConv))]

    assert [id(p) for p in hidden] == [id(p) for p in wanted]
    assert {id(model.bias), id(model.head.weight)} <= {id(p) for p in others}
    assert sum(p.numel() for p in hidden) == 0.5 * sum(
        layer.weight.numel() for layer in model.plain().blocks if isinstance(layer, nn.Conv2d)
    )


def test_in_bf16_it_comes_close():
    model, given = network(((32, 32), (64, 64))).float(), images(12, 32).float()
    wanted = model.train()(given)

    with torch.autocast("cpu", torch.bfloat16):
        found = model(given)

    assert (found.float() - wanted).norm() < 0.05 * wanted.norm()


def test_settings_offer_pairs_for_the_networks_that_can_learn_in_them():
    assert set(IN_PAIRS) == set(BLOCKS_BY_NAME)


def test_all_speed_recipes_train_in_pairs_and_what_they_leave_is_plain():
    for name in ("speed-fast", "speed", "speed-max"):
        settings = recipes.config_for(name, "d")
        answering = TrainConfig(**card(settings).architecture)
        assert isinstance(models.build(settings, 10, 32), MirrorNet)
        assert isinstance(models.build(answering, 10, 32), SpeedNet)


@pytest.mark.parametrize("change", [{"flip": False}, {"mirror_pairs": False}])
def test_where_left_and_right_differ_filters_are_free(change):
    model = models.build(TrainConfig(**PAIRS | change), 10, 32)

    assert type(model) is SpeedNet
