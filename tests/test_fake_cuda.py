"""Every model takes a training step on CUDA, as far as that can be seen without any.

Under FakeTensorMode tensors have shapes and devices but no values, and an operation on tensors of
two devices fails as it would on a real one. Only what is 0-dimensional may come from the CPU.
Autograd's engine alone asks the driver for a context, so backward really runs where CUDA does;
elsewhere each parameter gets an empty gradient on its own device in its stead.
"""

from collections.abc import Iterator

import pytest
import torch
import torch.nn as nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorMode,
    unset_fake_temporarily,
)

from imgcls import averaging, config, doctor, models, train
from imgcls.config import AS_PUBLISHED_ONLY, MODELS, OPTIMIZERS, PUBLISHED, TrainConfig
from imgcls.data import tensors
from imgcls.data.tensors import Split

CASES = [(name, "small") for name in MODELS if name not in AS_PUBLISHED_ONLY]
CASES += [(name, "imagenet") for name in PUBLISHED]
EVERYTHING = {
    "flip": True,
    "alternating_flip": True,
    "crop_pad": 4,
    "rotation": 10.0,
    "color_jitter": 0.2,
    "noise": 0.1,
    "cutout": 8,
    "label_smoothing": 0.1,
    "class_weights": True,
    "clip_norm": 1.0,
    "ema": 0.9,
    "batch_size": 8,
    "micro_batch": 4,
    "hard_share": 0.5,
    "hard_from": 0.0,
}
MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


@pytest.fixture(autouse=True)
def _fake(monkeypatch) -> Iterator[None]:
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.Tensor, "backward", empty_gradients)
        # Autocast would switch itself off.
        monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", bool)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with FakeTensorMode():
        yield


def empty_gradients(loss: torch.Tensor) -> None:
    """Give each leaf of the graph an empty gradient; the graph is real."""
    seen, ahead = set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        ahead += [before for before, _ in node.next_functions]
        if hasattr(node, "variable"):
            node.variable.grad = torch.empty_like(node.variable)


def on_cuda(settings: TrainConfig) -> nn.Module:
    """The network with fake weights on CUDA."""
    with unset_fake_temporarily(), torch.device("meta"):
        model = models.build(settings, 10, 32)
    for module in model.modules():  # `to` cannot swap what fake mode keeps a weak reference to
        for name, old in module.named_parameters(recurse=False):
            new = torch.empty(old.shape, dtype=old.dtype, device="cuda")
            module.register_parameter(name, nn.Parameter(new, old.requires_grad))
        for name, old in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(old.shape, dtype=old.dtype, device="cuda"))
    return model


def begin(monkeypatch, precision="bf16", **settings) -> tuple[train.State, Split]:
    """A state on CUDA, in a number format that CUDA computes in, and 16 images beside it."""
    config = TrainConfig(**EVERYTHING | settings)
    model = on_cuda(config)
    with torch.device("cuda"):
        split = Split(torch.zeros((16, 32, 32, 3), dtype=torch.uint8), torch.zeros(16).long())
        models.look(model, tensors.normalize(split.images(slice(4)), MEAN, STD))
        weights = torch.ones(10)
    # A deep copy of a fake tensor belongs to a copy of its mode, which mixes with no other.
    monkeypatch.setattr(averaging, "start", lambda _: on_cuda(config).requires_grad_(False))
    state = train.State(model, config, precision, MEAN, STD, class_weights=weights)
    if config.optimizer == "sgd":  # torch has no fake form of its fused kernel
        state.optimizer.param_groups[0].update(fused=False, foreach=True)
    state.clock = doctor.Clock(torch.device("cpu"))  # CUDA's events need CUDA
    train.prepare(state, split)
    return state, split


def step(state: train.State, split: Split) -> torch.Tensor:
    """The next step of an epoch, in the order that the engine makes."""
    # Nothing is drawn in fake mode: which device the generator is of makes no difference.
    draw, a_epoch = torch.Generator(), 2
    order, mirrored = train.order_of(state, len(split), 1 + state.step // a_epoch, a_epoch, draw)
    begin = 8 * (state.step % a_epoch)
    rows, flips = order[begin : begin + 8], mirrored[begin : begin + 8]
    return train.take_step(state, split, rows, a_epoch, draw, flips)


def on_cpu(state: train.State) -> list[str]:
    """What of a state lies on the CPU and is more than a number."""
    there = {
        "mean": state.mean,
        "losses": state.losses,
        "hardest": state.hardest,
        **dict(state.model.state_dict()),
        **{f"average {n}": t for n, t in state.average.state_dict().items()},
        **{f"gradient {n}": p.grad for n, p in state.model.named_parameters() if p.requires_grad},
    }
    for i, kept in enumerate(state.optimizer.state.values()):
        there |= {f"optimizer {i} {n}": t for n, t in kept.items() if torch.is_tensor(t)}
    return [name for name, tensor in there.items() if tensor.ndim and not tensor.is_cuda]


@pytest.mark.parametrize(("name", "stem"), CASES)
def test_every_model_trains_on_cuda_with_nothing_left_behind(name, stem, monkeypatch):
    least = config.least_side(name, stem) if name in PUBLISHED else 0
    state, split = begin(monkeypatch, model=name, stem=stem, input_size=least if least > 32 else 0)

    sums = step(state, split)

    assert sums.is_cuda
    assert sums.shape == (2,)
    assert on_cpu(state) == []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_steps_on_cuda_with_nothing_left_behind(optimizer, monkeypatch):
    state, split = begin(monkeypatch, model="small_resnet", optimizer=optimizer, weight_decay=0.01)

    step(state, split)
    step(state, split)

    assert len(state.optimizer.state) > 0
    assert on_cpu(state) == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("pairs", [True, False])
def test_images_grow_on_cuda(monkeypatch, pairs, precision):
    state, split = begin(
        monkeypatch,
        precision,
        model="speed_net",
        start_size=20,
        mirror_pairs=pairs,
        optimizer="muon",
    )

    assert step(state, split).is_cuda
    assert on_cpu(state) == []
    with state.autocast():
        logits = state.forward(torch.zeros((2, 3, 32, 32), device="cuda"))
    assert logits.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


@pytest.mark.parametrize(("name", "stem"), CASES)
def test_every_model_is_validated_on_cuda(name, stem, monkeypatch):
    least = config.least_side(name, stem) if name in PUBLISHED else 0
    state, split = begin(monkeypatch, model=name, stem=stem, input_size=least if least > 32 else 0)

    # All of it runs but the last line, which reads two numbers that fake tensors do not have.
    with pytest.raises(DataDependentOutputException, match="_local_scalar_dense"):
        list(train.validate(state, split))


@pytest.mark.parametrize("what", ["class_weights", "mean", "labels", "a bias"])
def test_a_tensor_left_on_the_cpu_would_be_noticed(what, monkeypatch):
    state, split = begin(monkeypatch, model="small_resnet")
    if what == "class_weights":
        state.class_weights = torch.ones(10)
    elif what == "mean":
        state.model.register_forward_pre_hook(lambda _, given: given[0] - torch.zeros(3, 1, 1))
    elif what == "labels":
        split = Split(split.pixels, torch.zeros(16).long())
    else:
        state.model[-1].bias = nn.Parameter(torch.zeros(10))

    with pytest.raises(RuntimeError, match=r"same device|two devices|expected device"):
        step(state, split)
