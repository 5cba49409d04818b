"""One contract for every network, and what is particular to some of them."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from imgcls import card as cards
from imgcls import config, models
from imgcls.card import Card
from imgcls.config import AS_PUBLISHED_ONLY, MODELS, OF_ONE_SIZE, PUBLISHED, TrainConfig
from imgcls.data import tensors
from imgcls.errors import ConfigError, ModelError
from imgcls.models import pretrained, zoo

CASES = [(name, "small") for name in MODELS if name not in AS_PUBLISHED_ONLY]
CASES += [(name, "imagenet") for name in PUBLISHED]
LARGE = 50_000_000  # parameters, from which on a file of them takes too long for a test


@dataclass
class Case:
    """A network for 7 classes, built with seed 0, and the side of the images that it gets."""

    settings: TrainConfig
    model: nn.Module
    side: int

    def images(self, count, side=None):
        side = side or self.side
        return torch.randn((count, 3, side, side), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    name, stem = request.param
    settings = TrainConfig(model=name, stem=stem)
    side = max(32, config.least_side(name, stem)) if name in PUBLISHED else 32
    torch.manual_seed(0)
    model = models.build(settings, 7, side).to(memory_format=torch.channels_last)
    return Case(settings, model, side)


def on_paper(settings, classes, size):
    """The network without memory for its weights."""
    with torch.device("meta"):
        return models.build(settings, classes, size, fetch=False)


def count(model):
    return sum(p.numel() for p in model.parameters())


def shapes(model):
    return {name: value.shape for name, value in model.state_dict().items()}


def card(settings=None, size=32):
    return Card(
        architecture=cards.architecture(settings or TrainConfig(model="net")),
        classes=("a", "b", "c", "d", "e", "f", "g"),
        size=size,
        fit="squash",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        run="r",
        recipe="custom",
        dataset="d",
        fingerprint="f",
        epoch=1,
        val_accuracy=0.5,
    )


def test_every_model_learns_in_all_its_parameters_and_gives_a_logit_a_class(case):
    case.model.zero_grad()
    logits = case.model.train()(case.images(2).contiguous(memory_format=torch.channels_last))
    logits.square().sum().backward()
    learning = {n: p for n, p in case.model.named_parameters() if p.requires_grad}

    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert [n for n, p in learning.items() if p.grad is None or not p.grad.isfinite().all()] == []
    case.model.zero_grad()


def test_every_model_answers_for_one_image_as_for_many_in_any_memory_format(case):
    images, model = case.images(2), case.model.eval()
    with torch.no_grad():
        both = model(images.contiguous(memory_format=torch.channels_last))
        alone = model(images[:1])

    torch.testing.assert_close(alone, both[:1], rtol=1e-3, atol=1e-3 * float(both.abs().max()))


def test_every_model_takes_images_of_another_size(case):
    name, stem = case.settings.model, case.settings.stem
    side = config.least_side(name, stem) if name in PUBLISHED else 48
    fixed = name in OF_ONE_SIZE or name not in PUBLISHED
    model = models.build(case.settings, 7, side) if fixed else case.model
    with torch.no_grad():
        logits = model.train()(case.images(2, side))

    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("speed_net", 9),
        ("speed_net_wide", 9),
        ("speed_net_deep", 9),
        ("vgg11", 32),
        ("resnet34", 1),
    ],
)
def test_images_that_grow_begin_at_what_the_network_can_take(name, least):
    settings = TrainConfig(model=name, start_size=least)
    with torch.device("meta"):
        network = models.build(settings, 10, 40).train()
        assert network(torch.zeros(2, 3, least, least)).shape == (2, 10)
    if least > 1:
        with pytest.raises(ConfigError, match=f"set start_size to {least} or more, not 8"):
            on_paper(settings.replace(start_size=8), 10, 40)
        with pytest.raises(ConfigError, match=f"set input_size to {least} and start_size to 0"):
            on_paper(settings, 10, least - 1)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "vit_b_16"])
def test_published_networks_need_what_torchvision_says(name):
    least = zoo.NETWORKS[name].weights.meta["min_size"][0]

    assert config.least_side(name, "imagenet") == least


@pytest.mark.parametrize("name", [n for n in MODELS if n not in PUBLISHED])
def test_networks_take_the_smallest_images_that_they_are_said_to(name):
    settings, least = TrainConfig(model=name), config.least_side(name, "small")

    model = on_paper(settings, 10, least)
    with torch.device("meta"):
        assert model.train()(torch.zeros(2, 3, least, least)).shape == (2, 10)
    if least > 1:
        with pytest.raises(ConfigError, match=f"{name} needs images of at least {least}×{least}"):
            on_paper(settings, 10, least - 1)


def test_a_seed_decides_the_weights_of_every_model(case):
    if count(case.model) > LARGE:
        pytest.skip("as many numbers again would take seconds")
    torch.manual_seed(0)
    again = models.build(case.settings, 7, case.side)

    assert all(
        torch.equal(a, b) for a, b in zip(case.model.parameters(), again.parameters(), strict=True)
    )


def test_every_model_is_rebuilt_from_its_card(case):
    known = card(case.settings, case.side)

    again = on_paper(TrainConfig(**known.architecture), len(known.classes), known.size)

    assert shapes(again) == shapes(case.model)


def test_every_saved_model_answers_as_before(case, tmp_path):
    if count(case.model) > LARGE:
        pytest.skip("a file of several hundred MB")
    images, file = case.images(1), tmp_path / "m.safetensors"
    models.save(file, case.model, card(case.settings, case.side))

    loaded, about = models.load(file)

    with torch.no_grad():
        answers, before = loaded(images), case.model.eval()(images)
    # In another memory format sums are added up in another order.
    torch.testing.assert_close(answers, before, rtol=1e-3, atol=1e-5 * float(before.abs().max()))
    assert about == card(case.settings, case.side)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_as_many_parameters_as_published(name):
    network = zoo.NETWORKS[name]
    settings = TrainConfig(model=name, stem="imagenet")
    ours = on_paper(settings, 1000, 224)
    with torch.device("meta"):
        theirs = network.make(weights=None, **({"init_weights": True} if network.unused else {}))
    unused = {n: p for n, p in theirs.named_parameters() if n.startswith(network.unused)}

    assert count(theirs) == count(ours) + sum(p.numel() for p in unused.values())
    assert network.weights.meta["num_params"] in (count(ours), count(theirs))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_have_a_place_for_all_but_the_head(name, monkeypatch):
    network = zoo.NETWORKS[name]
    with torch.device("meta"):
        theirs = network.make(weights=None, **({"init_weights": True} if network.unused else {}))
    monkeypatch.setattr(pretrained, "_published_state", lambda *_: theirs.state_dict())
    ours = on_paper(TrainConfig(model=name, stem="imagenet"), 7, 224)

    pretrained.fill(ours, name, "")

    theirs_only = {n for n in shapes(theirs) if shapes(theirs)[n] != shapes(ours).get(n)}
    head = {f"{network.head}.weight", f"{network.head}.bias"}
    assert {n for n in theirs_only if not n.startswith(network.unused)} == head


@pytest.mark.parametrize("name", PUBLISHED)
def test_frozen_leaves_nothing_but_the_head_to_learn(name):
    settings = TrainConfig(model=name, stem="imagenet", pretrained=True, freeze=True)
    learning = [(n, p) for n, p in on_paper(settings, 7, 224).named_parameters() if p.requires_grad]

    assert len(learning) == 2
    assert all(len(p) == 7 for _, p in learning)


@pytest.mark.parametrize(
    ("name", "stem"),
    [c for c in CASES if c[0] in PUBLISHED and c[0] != "vit_b_16" and config.least_side(*c) > 1],
)
def test_images_too_small_for_a_published_model_are_refused(name, stem):
    least = config.least_side(name, stem)

    with pytest.raises(ConfigError, match=f"these have {least - 1}×.* set input_size to {least}"):
        on_paper(TrainConfig(model=name, stem=stem), 7, least - 1)


def test_published_weights_for_one_size_refuse_any_other():
    settings = TrainConfig(model="vit_b_16", stem="imagenet", pretrained=True)

    with pytest.raises(ConfigError, match="needs images of 224×224 pixels, these have 256×256"):
        on_paper(settings, 7, 256)


def test_a_network_of_patches_needs_images_of_whole_patches():
    settings = TrainConfig(model="vit_b_16", stem="imagenet")

    with pytest.raises(ConfigError, match=r"squares of 16×16 .* these have 40×40: .* to 48"):
        on_paper(settings, 7, 40)


@pytest.mark.parametrize("name", AS_PUBLISHED_ONLY)
def test_a_model_without_a_small_form_says_so(name):
    with pytest.raises(ConfigError, match=f"{name} needs stem imagenet"):
        TrainConfig(model=name)


def test_old_weights_see_images_as_they_were_made_with(tmp_path):
    theirs = zoo.published.googlenet(weights=None, init_weights=True, transform_input=True)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    settings = TrainConfig(
        model="googlenet", stem="imagenet", pretrained=True, weights=str(tmp_path / "w.pth")
    )
    ours = models.build(settings, 1000, 32).eval()
    ours.fc = theirs.fc
    images = torch.randn(2, 3, 32, 32)

    with torch.no_grad():
        assert torch.equal(ours(images), theirs.eval()(images))


def test_a_network_resizes_its_images_and_its_card_says_so(tmp_path):
    settings = TrainConfig(model="resnet18", stem="imagenet", input_size=64)
    model = models.build(settings, 7, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    larger = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    models.save(tmp_path / "m.safetensors", model, card(settings))

    loaded, _ = models.load(tmp_path / "m.safetensors")

    with torch.no_grad():
        expected = model.network(larger)
        assert torch.equal(model(images), expected)
        assert torch.equal(loaded(images), expected)


def test_images_that_shrink_are_antialiased():
    stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 3, 64, 64)

    shrunk = tensors.resize(stripes, 16)

    assert shrunk.shape == (1, 3, 16, 16)
    torch.testing.assert_close(shrunk, torch.full_like(shrunk, 0.5), rtol=0, atol=0.05)


def test_a_network_for_larger_images_takes_small_ones_by_input_size():
    settings = TrainConfig(model="inception_v3", stem="imagenet", input_size=75)
    model = models.build(settings, 7, 32).eval()

    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 7)


def test_a_network_that_resizes_is_exported_with_it():
    torch.manual_seed(0)
    model = models.build(TrainConfig(model="cnn", input_size=48), 7, 32).eval()
    images = torch.randn(2, 3, 32, 32)

    exported = torch.export.export(model, (images,)).module()

    torch.testing.assert_close(exported(images), model(images))


def test_a_network_looks_at_images_as_it_will_see_them():
    images = torch.randn(20, 3, 24, 24)
    model = models.build(TrainConfig(model="speed_net", input_size=32), 7, 24)
    alone = models.build(TrainConfig(model="speed_net"), 7, 32)

    models.look(model, images)
    models.look(alone, tensors.resize(images, 32))

    assert torch.equal(model.network.whiten.weight, alone.whiten.weight)
    assert alone.whiten.weight.std() > 0


def test_growing_images_and_a_fixed_input_size_contradict():
    with pytest.raises(ConfigError, match="input_size and start_size exclude each other"):
        TrainConfig(input_size=64, start_size=24)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("softmax", 3072 * 10 + 10),
        ("feedforward", 3073 * 1650 + 1651 * 512 + 513 * 138 + 139 * 10),
        ("net", 62_006),  # as PyTorch's tutorial network has
        ("simple_cnn", 896 + 64 + 18_496 + 128 + 4097 * 512 + 513 * 10),
        ("cnn", 896 + 18_496 + 36_928 + 1025 * 512 + 513 * 10),
        ("lenet5", 456 + 2_416 + 48_120 + 121 * 84 + 85 * 10),
        ("resnet18", 11_173_962),  # as published for CIFAR-10's stem
    ],
)
def test_a_network_has_as_many_parameters_as_its_source_says(name, parameters):
    model = models.build(TrainConfig(model=name), 10, 32)

    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_tutorial_network_equals_its_layers_written_out():
    torch.manual_seed(0)
    model = models.build(TrainConfig(model="net"), 10, 32)
    c1, c2, l1, l2, l3 = (m for m in model if list(m.parameters()))
    x = torch.randn(3, 3, 32, 32)
    pooled = torch.nn.functional.max_pool2d
    by_hand = pooled(c2(pooled(c1(x).relu(), 2)).relu(), 2).reshape(-1, 16 * 5 * 5)

    assert torch.equal(model(x), l3(l2(l1(by_hand).relu()).relu()))


def test_a_model_file_with_a_torn_end_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    models.save(path, models.build(TrainConfig(model="net"), 3, 32), card())
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ModelError, match="damaged"):
        models.load(path)


def test_images_too_small_for_a_network_are_refused():
    with pytest.raises(ConfigError, match="lenet5 needs images of at least 32×32"):
        models.build(TrainConfig(model="lenet5"), 10, 16)


def test_pretrained_weights_come_from_a_local_file_and_frozen_layers_stay(tmp_path):
    source = models.build(TrainConfig(model="resnet18", stem="imagenet"), 1000, 32)
    torch.save(source.state_dict(), tmp_path / "resnet18.pth")
    settings = TrainConfig(
        model="resnet18",
        stem="imagenet",
        pretrained=True,
        freeze=True,
        weights=str(tmp_path / "resnet18.pth"),
    )

    model = models.build(settings, 10, 32)

    assert torch.equal(model.state_dict()["conv1.weight"], source.state_dict()["conv1.weight"])
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("contents", [b"", b"junk", b"PK\x03\x04"])
def test_a_weights_file_that_is_none_is_refused(tmp_path, contents):
    path = tmp_path / "w.pth"
    path.write_bytes(contents)
    settings = TrainConfig(model="resnet18", stem="imagenet", pretrained=True, weights=str(path))

    with pytest.raises(ModelError, match=r"w\.pth holds no plain weights"):
        models.build(settings, 10, 32)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"conv9.weight": torch.zeros(1)}, tmp_path / "w.pth")
    settings = TrainConfig(
        model="resnet18", stem="imagenet", pretrained=True, weights=str(tmp_path / "w.pth")
    )

    with pytest.raises(ModelError, match="do not fit this network"):
        models.build(settings, 10, 32)


def test_weights_that_cannot_be_downloaded_say_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no cached copy
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    settings = TrainConfig(model="resnet18", stem="imagenet", pretrained=True)

    with pytest.raises(ModelError, match=r"set weights to a local copy of resnet18-f37072fd\.pth"):
        models.build(settings, 10, 32)


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ConfigError, match=r"net has no pretrained weights.*resnet18"):
        TrainConfig(model="net", stem="imagenet", pretrained=True)


def test_the_names_of_published_models_are_those_of_the_zoo():
    assert set(PUBLISHED) == set(zoo.NETWORKS)
    assert {n for n, network in zoo.NETWORKS.items() if network.fit is None} == set(
        AS_PUBLISHED_ONLY
    )
