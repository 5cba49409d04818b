import pytest
import torch

from imgcls import models
from imgcls.card import Card
from imgcls.config import MODELS, TrainConfig
from imgcls.errors import ConfigError, ModelError

STEMS = [(name, "small") for name in MODELS] + [("resnet18", "imagenet")]


def card(model="net", stem="small"):
    return Card(
        architecture={"model": model, "stem": stem},
        classes=("a", "b", "c"),
        size=32,
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


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize(("name", "stem"), STEMS)
def test_every_model_gives_a_logit_a_class_for_each_image(name, stem, size):
    model = models.build(TrainConfig(model=name, stem=stem), 7, size)

    logits = model(torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last))

    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("name", "stem"), STEMS)
def test_every_parameter_of_every_model_gets_a_gradient(name, stem):
    model = models.build(TrainConfig(model=name, stem=stem), 7, 32)

    model(torch.randn(4, 3, 32, 32)).square().sum().backward()

    assert [n for n, p in model.named_parameters() if p.grad is None] == []


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
def test_a_published_network_has_as_many_parameters_as_published(name, parameters):
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


def test_a_saved_model_answers_as_before_and_knows_its_classes(tmp_path):
    model = models.build(TrainConfig(model="simple_cnn"), 3, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    models.save(tmp_path / "m.safetensors", model, card("simple_cnn"))

    loaded, about = models.load(tmp_path / "m.safetensors")

    assert torch.equal(loaded(images), model(images))
    assert about == card("simple_cnn")


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
    settings = TrainConfig(model="net", stem="imagenet", pretrained=True)

    with pytest.raises(ConfigError, match="net has no pretrained weights"):
        models.build(settings, 10, 32)
