"""What the speed recipes are made of, each against an independent computation."""

import copy
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision
from sklearn.utils.class_weight import compute_class_weight
from torch import Generator

from imgcls import averaging, models, muon, optim, recipes, sitting, train
from imgcls.config import ConfigError, TrainConfig
from imgcls.data import augment, tensors
from imgcls.data.tensors import Split
from imgcls.evaluate import views
from imgcls.events import Epoch, Step
from imgcls.models import quicker
from imgcls.models.mirror import MirrorNet
from imgcls.models.speed import SpeedNet

HALF = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def data():
    """Three classes that differ in colour: 60 images to learn from, 30 to validate on."""
    draw = Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    images = torch.randint(0, 120, (90, 32, 32, 3), dtype=torch.uint8, generator=draw)
    images[torch.arange(90), :, :, labels] += 100
    return Split(images[:60], labels[:60]), Split(images[60:], labels[60:])


def start(settings, weights=None, precision="fp32"):
    torch.manual_seed(settings.seed)
    model = models.build(settings, 3, 32).to(memory_format=torch.channels_last)
    return train.State(model, settings, precision, *HALF, class_weights=weights)


def flat(module):
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


# --- whitening ---


def test_the_first_layer_whitens_patches():
    correlated = torch.randn(64, 1, 33, 33, generator=Generator().manual_seed(0))
    images = F.avg_pool2d(correlated, 2, 1).repeat(1, 3, 1, 1)
    images = images + 0.3 * torch.randn(images.shape, generator=Generator().manual_seed(1))
    model = models.build(TrainConfig(model="speed_net"), 3, 32)

    models.look(model, images)

    with torch.no_grad():
        seen = model.whiten(images)[:, :12].permute(0, 2, 3, 1).reshape(-1, 12).numpy()
    covariance = (seen.astype(np.float64).T @ seen) / len(seen)  # independent of patch_covariance
    off = covariance - np.diag(np.diag(covariance))
    assert np.abs(off).max() < 1e-3
    assert 0.95 < np.diag(covariance).min() <= np.diag(covariance).max() < 1.001


def test_the_second_half_of_the_whitening_filters_is_the_first_negated():
    model = models.build(TrainConfig(model="speed_net"), 3, 32)

    models.look(model, torch.rand(8, 3, 32, 32))

    assert torch.equal(model.whiten.weight[12:], -model.whiten.weight[:12])
    assert not model.whiten.weight.requires_grad
    assert model.whiten.bias.requires_grad


def test_weights_saved_before_the_first_layer_had_biases_give_the_same_answers():
    model = models.build(TrainConfig(model="speed_net"), 3, 32).eval()
    old = {k: v.clone() for k, v in model.state_dict().items() if k != "whiten.bias"}
    images = torch.rand(2, 3, 32, 32)
    wanted = model(images)
    nn.init.ones_(model.whiten.bias)

    model.load_state_dict(old)

    assert torch.equal(model(images), wanted)


# --- augmentation ---


def test_two_epochs_show_each_image_both_ways():
    rows, begin = torch.arange(10_000), train.mix("mirror", 0, 0)

    first, second, third = (augment.alternating(rows, epoch, begin) for epoch in range(3))

    assert torch.equal(second, ~first)
    assert torch.equal(third, first)
    assert 0.48 < first.float().mean() < 0.52
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05  # neighbours do not go together


def test_another_seed_mirrors_other_images():
    rows = torch.arange(10_000)

    first, other = (augment.alternating(rows, 0, train.mix("mirror", seed, 0)) for seed in (0, 1))

    assert 0.4 < (first == other).float().mean() < 0.6


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_run_shows_an_image_and_its_mirror_in_turn(data, share):
    settings = TrainConfig(flip=True, alternating_flip=True, hard_share=share, hard_from=0.5)
    state = start(settings.replace(model="softmax", epochs=4, batch_size=60))
    state.losses = torch.rand(60) if share < 1 else None
    shown = {row: [] for row in range(60)}
    for epoch in range(1, 5):
        state.step = epoch - 1
        order, mirrored = train.order_of(state, 60, epoch, 1, Generator().manual_seed(epoch))
        for row, flipped in zip(order.tolist(), mirrored.tolist(), strict=True):
            shown[row].append(flipped)

    for ways in shown.values():
        assert ways[:2] in ([True, False], [False, True])
        assert ways[2:4] in ([], [True, False], [False, True])


def test_late_epochs_take_the_hardest_images_as_often_as_needed(data):
    settings = TrainConfig(model="softmax", hard_share=0.25, hard_from=0.5, epochs=4)
    state = start(settings)
    state.losses = torch.arange(60.0).roll(7)
    hardest = set(state.losses.sort(descending=True).indices[:15].tolist())

    orders = []
    for epoch in (2, 3):
        state.step = epoch - 1
        orders.append(train.order_of(state, 60, epoch, 1, Generator().manual_seed(epoch))[0])

    assert orders[0].sort().values.tolist() == list(range(60))
    assert set(orders[1].tolist()) == hardest
    assert orders[1].bincount(minlength=60).max() == 4


def test_the_loss_of_each_image_is_kept_as_when_it_was_last_seen(data):
    settings = TrainConfig(model="softmax", hard_share=0.5, epochs=1, batch_size=20, peak_lr=1e-7)
    state = start(settings)

    list(train.fit(state, *data))

    inputs = train._inputs(state, data[0], torch.arange(60), 32, Generator())
    expected = F.cross_entropy(state.model(inputs), data[0].labels, reduction="none")
    assert torch.allclose(state.losses, expected, atol=1e-3)


def test_images_grow_to_their_full_size():
    settings = TrainConfig(start_size=20, full_size_from=0.6)

    sides = [augment.side_at(settings, share / 100, 32) for share in range(100)]

    assert (sides[0], sides[19], sides[20], sides[59], sides[60]) == (20, 20, 24, 28, 32)
    assert sides == sorted(sides)


@pytest.mark.parametrize("start_size", [0, 32, 64])
def test_images_that_need_not_grow_have_full_size(start_size):
    assert augment.side_at(TrainConfig(start_size=start_size), 0.0, 32) == 32


def test_a_smaller_image_is_the_average_of_its_pixels():
    images = torch.rand(2, 3, 32, 32)

    assert torch.allclose(tensors.resize(images, 32), images)
    assert tensors.resize(images, 16).shape == (2, 3, 16, 16)
    assert torch.allclose(tensors.resize(images, 16).mean(), images.mean(), atol=0.01)


# --- convolutions of images laid side by side ---


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [(2, 2), (7, 7), (8, 8), (5, 3), (3, 5)])
def test_images_side_by_side_give_the_sums_of_each_alone(monkeypatch, side, stride):
    monkeypatch.setattr(quicker, "NARROW", 8)
    draw = Generator().manual_seed(0)
    images = torch.randn(37, 16, *side, generator=draw).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(16, 32, 3, stride=stride, padding=1)
    laid = copy.deepcopy(layer)
    quicker.quicken(nn.Sequential(laid))
    shapes = []
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest: shapes.append(x.shape) or convolve(x, *rest))
    found = []
    for one in (layer, laid):
        seen = images.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            result = one(seen)
        pull = torch.sin(torch.arange(result.numel())).view_as(result)
        (result.float() * pull).sum().backward()
        found.append([result.detach().float(), seen.grad, one.weight.grad, one.bias.grad])

    assert shapes[0] == images.shape != shapes[1]
    assert shapes[1][-1] >= quicker.ROW - 8
    for alone, beside in zip(*found, strict=True):
        assert alone.shape == beside.shape
        assert (alone - beside).norm() < 0.005 * alone.norm()  # bf16 keeps eight bits


@pytest.mark.parametrize("height", [1, 2, 3])
@pytest.mark.parametrize(
    ("side", "groups", "narrow"),
    [(3, 1, 0), (3, 1, 8), (3, 16, 0), (5, 1, 0), (5, 16, 0), (7, 1, 0)],
)
def test_images_one_pixel_wide_have_a_right_gradient_in_bf16(
    monkeypatch, height, side, groups, narrow
):
    monkeypatch.setattr(quicker, "NARROW", narrow)
    images = torch.randn(8, 16, height, 1, generator=Generator().manual_seed(0))
    filters = 16 if groups > 1 else 32
    convolution = nn.Conv2d(16, filters, side, stride=2, padding=side // 2, groups=groups)
    [layer] = quicker.quicken(nn.Sequential(convolution))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            result = layer(images.to(memory_format=torch.channels_last))
        pull = torch.sin(torch.arange(result.numel())).view_as(result)
        found.append(torch.autograd.grad((result.float() * pull).sum(), layer.weight)[0])

    right, ours = found
    assert (ours - right).norm() < 0.01 * right.norm()


@pytest.mark.parametrize(("flags", "tiles"), [("amx_bf16 amx_tile", True), ("avx512_bf16", False)])
def test_linux_tells_whether_a_processor_has_tiles(tmp_path, flags, tiles):
    told = tmp_path / "cpuinfo"

    assert not quicker.in_tiles(told)  # as where there is no Linux
    told.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse2\n")
    assert quicker.in_tiles(told) is tiles
    assert (8 if quicker.in_tiles() else 0) == quicker.NARROW


def test_only_narrow_images_in_training_in_bf16_lie_side_by_side(monkeypatch):
    monkeypatch.setattr(quicker, "NARROW", 8)
    layer = quicker.quicken(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)))
    shapes = []
    convolve = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda x, *rest: shapes.append(x.shape) or convolve(x, *rest))

    layer(torch.zeros(10, 4, 7, 7))
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.zeros(10, 4, 9, 9))
        layer.eval()(torch.zeros(10, 4, 7, 7))
        monkeypatch.setattr(quicker, "NARROW", 0)
        layer.train()(torch.zeros(10, 4, 7, 7))

    assert [shape[0] for shape in shapes] == [10, 10, 10, 10]


def test_quicker_layers_change_no_name_and_only_what_can_be_quicker():
    model = models.build(TrainConfig(model="resnet18", stem="imagenet"), 10, 32)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    others = nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.Conv2d(6, 6, 4, stride=2, padding=1),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2),
        nn.Conv2d(6, 6, 5, padding=2),
        nn.ReLU(),
    )

    assert {type(m) for m in layers if m.kernel_size == (3, 3)} == {quicker.SideBySide}
    assert {type(m) for m in layers if m.kernel_size != (3, 3)} == {quicker.Widened}
    assert list(model.state_dict()) == list(torchvision.models.resnet18().state_dict())
    assert {type(m) for m in quicker.quicken(others)} == {nn.Conv2d, nn.ReLU}
    assert type(others) is nn.Sequential
    assert all(type(m) is nn.Conv2d for m in quicker.undo(model).modules() if m in layers)


# --- a max-pool before its ReLU ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["cnn", "simple_cnn", "alexnet", "vgg11"])
def test_a_pool_before_its_relu_gives_the_same_numbers_to_the_last_bit(name, dtype):
    images = torch.randn(5, 3, 32, 32, generator=Generator().manual_seed(0))
    images[:, :, :8] = -1.0  # all of a window the same
    ours = models.build(TrainConfig(model=name, stem="small"), 10, 32)
    theirs = quicker.undo(copy.deepcopy(ours))
    found = []
    for model in (ours, theirs):
        torch.manual_seed(0)  # dropout
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = model(images)
        logits.float().logsumexp(dim=1).sum().backward()
        found.append([logits, *(p.grad for p in model.parameters())])

    assert not any(type(layer) is quicker.PoolFirst for layer in theirs.modules())
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert all(gradient.any() for gradient in found[0])


@pytest.mark.parametrize("name", ["net", "simple_cnn", "cnn", "alexnet", "vgg11", "vgg16"])
def test_relus_come_after_their_pools_while_learning_and_before_them_when_asked(name):
    model = models.build(TrainConfig(model=name, stem="small"), 10, 32)
    order = []
    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda layer, given, gives: order.append(layer))
    listed = [layer for layer in model.modules() if not list(layer.children())]
    pooled = [
        pair for pair in pairwise(listed) if [type(m) for m in pair] == [nn.ReLU, nn.MaxPool2d]
    ]
    images = torch.zeros(2, 3, 32, 32)

    model(images)
    while_learning = order.copy()
    order.clear()
    model.eval()(images)

    assert pooled
    for relu, pool in pooled:
        assert while_learning.index(pool) == while_learning.index(relu) - 1
        assert order.index(pool) == order.index(relu) + 1


# --- Muon ---


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(2, 32, 80), (1, 80, 32), (3, 24, 40)])
def test_orthogonalising_keeps_directions_and_levels_singular_values(shape, dtype):
    matrices = torch.randn(shape, generator=Generator().manual_seed(0))

    turned = muon.orthogonal(matrices.to(dtype)).float()

    for matrix, result in zip(matrices, turned, strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        inside = u.T @ result @ v.T  # diagonal where the directions are the same
        values = inside.diagonal()
        assert (inside - torch.diag(values)).abs().max() < 0.06
        assert 0.6 < values.min() <= values.max() < 1.3


def test_muon_turns_filters_at_one_norm_and_leaves_the_rest_to_adam():
    model = models.build(TrainConfig(model="speed_net"), 10, 32)
    optimizer = optim.build(model, TrainConfig(optimizer="muon", peak_lr=0.1))
    hidden, others = (group["params"] for group in optimizer.param_groups)

    assert {p.ndim for p in hidden} == {4}
    assert any(p is model.head.weight for p in others)
    before = [p.detach().clone() for p in hidden]
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    for p, old in zip(hidden, before, strict=True):
        scaled = old * len(old) ** 0.5 / old.norm()
        singular = torch.linalg.svdvals((p - scaled).detach().view(len(p), -1))
        assert singular.max() < 0.1 * 1.3
        assert singular.max() > 0.1 * 0.6


@pytest.mark.parametrize("name", ["vit_b_16", "convnext_tiny", "mobilenet_v3_small"])
def test_muon_turns_nothing_but_the_weights_of_convolutions_and_linear_layers(name):
    fitted = {"stem": "imagenet", "input_size": 32} if name == "vit_b_16" else {"stem": "small"}
    model = models.build(TrainConfig(model=name, **fitted), 3, 32)
    optimizer = optim.build(model, TrainConfig(optimizer="muon", peak_lr=0.01))
    kinds = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    kinds |= {id(m.in_proj_weight) for m in model.modules() if hasattr(m, "in_proj_weight")}

    turned = [p for group in optimizer.param_groups if group["hidden"] for p in group["params"]]

    assert turned
    assert all(id(p) in kinds for p in turned)


def test_muon_moves_weights_that_begin_at_zero():
    layers = [nn.Parameter(torch.zeros(4, 6)), nn.Parameter(torch.ones(2, 4))]
    for layer in layers:
        layer.grad = torch.randn(layer.shape, generator=Generator().manual_seed(0))

    muon.Muon(layers, lr=0.1, momentum=0.6, weight_decay=0.0).step()

    assert layers[0].isfinite().all()
    assert layers[0].abs().max() > 0


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_muon_multiplies_in_the_format_of_the_run(monkeypatch, precision, dtype):
    seen = []
    monkeypatch.setattr(
        muon, "orthogonal", lambda matrices: seen.append(matrices.dtype) or matrices
    )
    model = models.build(TrainConfig(model="speed_net"), 10, 32)
    settings = TrainConfig(optimizer="muon", peak_lr=0.1)
    state = train.State(model, settings, precision, (0.5,) * 3, (0.5,) * 3)

    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    state.optimizer.step()

    assert set(seen) == {dtype}


def test_the_adam_part_of_muon_is_adamw():
    weights = [torch.randn(5, requires_grad=True) for _ in range(2)]
    with torch.no_grad():
        weights[1].copy_(weights[0])
    lr = 0.24
    ours = muon.Muon([weights[0]], lr=lr, momentum=0.6, weight_decay=0.1)
    theirs = torch.optim.AdamW(
        [weights[1]], lr=lr * muon.ADAM_SHARE, betas=muon.BETAS, weight_decay=0.1
    )
    for step in range(5):
        for optimizer, weight in zip((ours, theirs), weights, strict=True):
            weight.grad = torch.full((5,), float(step)) * weight.detach()
            optimizer.step()

    assert torch.allclose(*weights, atol=1e-6)


# --- the step ---


@pytest.mark.parametrize("micro", [8, 20, 59])
def test_micro_batches_take_the_step_of_the_whole_batch(data, micro):
    settings = TrainConfig(model="net", batch_size=60, peak_lr=0.05, label_smoothing=0.1)
    whole, parts = start(settings), start(settings.replace(micro_batch=micro))
    for _ in range(3):
        sums = [
            train.take_step(s, data[0], torch.arange(60), 1, Generator()) for s in (whole, parts)
        ]

    assert torch.allclose(*sums, rtol=1e-4)
    assert torch.allclose(flat(whole.model), flat(parts.model), atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "mode"), [("compile", "default"), ("cuda-graphs", "reduce-overhead")]
)
def test_a_compiled_network_takes_the_same_steps(data, asked, mode, monkeypatch):
    real, modes = torch.compile, []

    def traced(forward, **options):  # code generation needs a C++ compiler, tracing does not
        modes.append(options["mode"])
        return real(forward, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch, "compile", traced)
    settings = TrainConfig(model="net", batch_size=20, peak_lr=0.05)
    plain, compiled = start(settings), start(settings.replace(compile=asked))
    for state in (plain, compiled):
        for step in range(3):
            rows = torch.arange(20 * step, 20 * step + 20)
            train.take_step(state, data[0], rows, 3, Generator())

    assert modes == [mode]
    assert plain.state_dict()["model"].keys() == compiled.state_dict()["model"].keys()
    assert torch.allclose(flat(plain.model), flat(compiled.model), atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("network", [SpeedNet, MirrorNet])
def test_compiled_in_bf16_a_speed_net_has_the_gradient_that_it_has_otherwise(network):
    torch.manual_seed(0)
    model = network(4, ((8, 8), (8, 8))).train()
    images, labels = torch.randn(16, 3, 20, 20), torch.arange(16) % 4
    gradients = []
    for forward in (model, torch.compile(model, dynamic=False)):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in optim.learning(model)]))

    assert F.cosine_similarity(*gradients, dim=0) > 0.99


def test_gradients_are_clipped_to_a_norm(data):
    settings = TrainConfig(model="net", batch_size=60, peak_lr=1.0, momentum=0.0)
    steps = []
    for clip in (0.0, 0.01):
        state = start(settings.replace(clip_norm=clip))
        before = flat(state.model)
        train.take_step(state, data[0], torch.arange(60), 1, Generator())
        steps.append((flat(state.model) - before).norm().item())

    assert steps[0] > 0.02
    assert steps[1] == pytest.approx(0.01, rel=1e-3)


def test_class_weights_are_those_of_scikit_learn():
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)
    split = Split(torch.zeros(90, 2, 2, 3, dtype=torch.uint8), labels)

    weights = sitting.class_weights(split, 4)

    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert torch.allclose(weights[:3].double(), torch.from_numpy(expected))
    assert weights[3] == 0
    assert weights[labels].mean() == pytest.approx(1.0)


def test_weighted_classes_weigh_in_the_gradient(data):
    settings = TrainConfig(model="softmax", batch_size=60, peak_lr=0.1, momentum=0.0)
    weights = torch.tensor([2.0, 0.5, 0.5])
    state = start(settings, weights)
    reference = copy.deepcopy(state.model)
    inputs = train._inputs(state, data[0], torch.arange(60), 32, Generator())

    train.take_step(state, data[0], torch.arange(60), 1, Generator())

    losses = F.cross_entropy(reference(inputs), data[0].labels, reduction="none")
    (losses * weights[data[0].labels]).mean().backward()
    for p, q in zip(state.model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(p, q - 0.1 * q.grad, atol=1e-6)


# --- averaging ---


def test_the_average_is_the_weighted_sum_of_all_weights():
    model = nn.Linear(2, 1, bias=False)
    average, expected = averaging.start(model), model.weight.detach().clone()
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.add_(1.0)
        averaging.update(average, model, 0.9, step)
        keep = min(0.9, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * model.weight.detach()

    assert torch.allclose(average.weight, expected)
    assert not average.weight.requires_grad


def test_batch_norm_statistics_are_averaged_too():
    model = nn.BatchNorm1d(3)
    average = averaging.start(model)
    model(torch.randn(50, 3) + 5)
    averaging.update(average, model, 0.999, 1)

    share = 1 - 2 / 11
    assert torch.allclose(average.running_mean, share * model.running_mean)
    assert average.num_batches_tracked == 1


def test_the_average_is_what_is_validated(data):
    settings = TrainConfig(model="net", epochs=1, batch_size=20, peak_lr=0.05, ema=0.99999)
    state = start(settings)
    *_, end = train.fit(state, *data)

    loss, _ = _drained(train.validate(state, data[1]))
    state.average = None
    assert loss == end.val_loss
    assert _drained(train.validate(state, data[1]))[0] != end.val_loss


def _drained(generator):
    try:
        while True:
            next(generator)
    except StopIteration as end:
        return end.value


# --- schedule and length ---


def test_a_schedule_ends_with_the_last_of_a_fixed_number_of_steps():
    settings = TrainConfig(schedule="one-cycle", warmup_share=0.25, epochs=3, steps=25, peak_lr=1.0)

    rates = [optim.learning_rate(settings, step, 10) for step in range(25)]

    assert rates.index(max(rates)) == 6
    assert rates[-1] == pytest.approx(0.5 / 25 / 0.75)
    assert rates[0] == pytest.approx(0.5 / 25 / 0.25)


def test_a_run_ends_after_its_steps_in_the_middle_of_an_epoch(data):
    settings = TrainConfig(model="softmax", epochs=3, steps=7, batch_size=20)
    state = start(settings)

    told = list(train.fit(state, *data))

    assert state.step == 7
    epochs = [e for e in told if isinstance(e, Epoch)]
    assert [e.step for e in epochs] == [3, 6, 7]
    assert epochs[-1].val_accuracy is not None
    assert epochs[-1].train_loss < 3.0  # a mean over the images seen, not over a whole epoch's
    assert list(train.fit(state, *data)) == []


def test_a_run_whose_epochs_end_before_its_steps_is_validated_all_the_same(data):
    settings = TrainConfig(model="softmax", epochs=2, steps=100, batch_size=20, eval_every=50)
    state = start(settings)

    told = list(train.fit(state, *data))

    assert [e.val_accuracy is not None for e in told if isinstance(e, Epoch)] == [False, True]
    assert state.epochs == 2


# --- recipes ---

SMALL = {"threads": 1}
WITH_FORMATS = [
    (name, format)
    for name, recipe in recipes.RECIPES.items()
    for format in ("fp32", "bf16")
    if format == "fp32" or recipe.config.optimizer == "muon"  # other code in bf16
]


@pytest.mark.parametrize(("name", "precision"), WITH_FORMATS)
def test_each_recipe_resumes_to_the_very_same_weights(name, precision, data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "REPORT_SECONDS", 0.0)  # an event each step
    changes = {"batch_size": 20, "micro_batch": 0, "steps": 8, "early_stopping": 0}
    if recipes.RECIPES[name].config.epochs < 3:
        changes["epochs"] = 3
    if recipes.RECIPES[name].config.pretrained:
        changes["pretrained"] = False  # no download in a test
    settings = recipes.config_for(name, "tiny", precision=precision, **changes, **SMALL)
    state, saved = start(settings, precision=precision), 0
    images = tensors.normalize(data[0].images(slice(None)), *HALF)
    models.look(state.model, images)
    for event in train.fit(state, *data):
        if isinstance(event, Step) and event.step in (2, 7):
            torch.save(state.state_dict(), tmp_path / f"{saved}.pt")
            saved += 1

    assert saved == 2
    for number in range(saved):
        again = start(settings, precision=precision)
        again.load_state_dict(torch.load(tmp_path / f"{number}.pt", weights_only=True))
        list(train.fit(again, *data))
        assert torch.equal(flat(again.judged), flat(state.judged))
        assert again.step == state.step == 8


# --- test-time augmentation ---


def test_an_answer_is_averaged_over_six_views():
    seen = []

    def model(x):
        seen.append(x)
        return x.mean((2, 3)) * len(seen)

    images = torch.rand(2, 3, 8, 8)
    answer = views.answer(model, images, TrainConfig(flip=True, crop_pad=2))

    padded = F.pad(images, (1, 1, 1, 1), "reflect")
    order = [images, padded[:, :, :8, :8], padded[:, :, 2:, 2:]]
    assert len(seen) == 6
    expected = torch.zeros(2, 3)
    for i, (view, weight) in enumerate(zip(order, (0.5, 0.25, 0.25), strict=True)):
        assert torch.equal(seen[2 * i], view)
        assert torch.equal(seen[2 * i + 1], view.flip(3))
        expected += weight * view.mean((2, 3)) * (4 * i + 3) / 2
    assert torch.allclose(answer, expected)


def test_views_that_training_never_showed_are_left_out():
    calls = []

    def model(x):
        calls.append(x)
        return x.mean((2, 3))

    views.answer(model, torch.rand(2, 3, 8, 8), TrainConfig())

    assert len(calls) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"micro_batch": 64, "batch_size": 32}, {"hard_share": 0.5, "processes": 2}],
)
def test_settings_that_contradict_are_refused(wrong):
    with pytest.raises(ConfigError):
        TrainConfig(**wrong)
