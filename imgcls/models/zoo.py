"""Published networks from torchvision: as they are, or fitted to small images.

stem imagenet is torchvision's network for another number of classes. stem small is what the
literature makes of it for 32×32 pixels: less is thrown away before the first blocks see it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch.nn as nn
import torchvision.models as published
from torch import Tensor
from torchvision.models.googlenet import BasicConv2d

from imgcls.config import TrainConfig
from imgcls.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """What there is to know of a published network."""

    make: Callable[..., nn.Module]
    weights: Any  # ImageNet weights, with what they expect
    head: str  # the layer that gives the logits, as the published network calls it
    fit: Callable[[Any, int], None] | None  # make it fit small images, given the classes
    options: dict[str, Any] = field(default_factory=dict)  # of `make`
    options_as_published: dict[str, Any] = field(default_factory=dict)  # with stem imagenet alone
    alone: type[nn.Module] | None = None  # the same network with no answer but its own
    unused: tuple[str, ...] = ()  # beginnings of names in the weights that have no place here
    patch: int = 0  # side of the squares it cuts images into; built for one size, it takes no other


class _GoogLeNet(published.GoogLeNet):  # type: ignore[misc]
    """Compiled, torchvision's gives a tuple of answers even where it has no auxiliary heads."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, classes) logits."""
        logits, _, _ = self._forward(self._transform_input(images))
        return logits  # type: ignore[no-any-return]


class _Inception(published.Inception3):  # type: ignore[misc]
    """As `_GoogLeNet`."""

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, classes) logits."""
        logits, _ = self._forward(self._transform_input(images))
        return logits  # type: ignore[no-any-return]


def _small_resnet(model: published.ResNet, classes: int) -> None:
    """A first convolution of 3×3 with stride 1 and no pooling: He et al. 2015, section 4.2."""
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()


def _small_alexnet(model: published.AlexNet, classes: int) -> None:
    """First convolution 5×5, stride 1, as in Krizhevsky's layers for CIFAR-10 (cuda-convnet, 2011).

    The mean of what is left (3×3 for an image of 32×32) goes straight to the classes: the two
    hidden layers of 4096 were made for 6×6.
    """
    model.features[0] = nn.Conv2d(3, 64, 5, padding=2)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256, classes))


def _small_vgg(model: published.VGG, classes: int) -> None:
    """All convolutions and pools stay: 32×32 ends as 1×1, which goes straight to the classes.

    As Liu and Deng 2015, "Very deep convolutional neural network based image classification using
    small training sample size", but without their hidden layer of 512.
    """
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Linear(512, classes)


def _small_googlenet(model: published.GoogLeNet, classes: int) -> None:
    """First convolution 3×3, stride 1, and none of the two pools before the first inception block.

    32×32 reaches the blocks whole and leaves them as 8×8.
    """
    model.conv1 = BasicConv2d(3, 64, kernel_size=3, padding=1)
    model.maxpool1 = model.maxpool2 = nn.Identity()


def _small_mobilenet(model: published.MobileNetV3, classes: int) -> None:
    """Stride 1 in the first convolution and the first block: 32×32 ends as 4×4, not 1×1."""
    model.features[0][0].stride = (1, 1)
    model.features[1].block[0][0].stride = (1, 1)


def _small_efficientnet(model: published.EfficientNet, classes: int) -> None:
    """Stride 1 in the first convolution and in the first stage that halves: 32×32 ends as 4×4."""
    model.features[0][0].stride = (1, 1)
    model.features[2][0].block[1][0].stride = (1, 1)


def _small_convnext(model: published.ConvNeXt, classes: int) -> None:
    """Patches of 2×2 instead of 4×4: 32×32 ends as 2×2.

    As ConvMixer on CIFAR-10, Trockman and Kolter 2022, arXiv:2201.09792, section 4.
    """
    model.features[0][0] = nn.Conv2d(3, 96, 2, stride=2)
    nn.init.trunc_normal_(model.features[0][0].weight, std=0.02)
    nn.init.zeros_(model.features[0][0].bias)


# Weights that expect another normalization than their paper's: the network itself changes over.
_OLD_NORMALIZATION = {"transform_input": True}
_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}

NETWORKS: dict[str, Network] = {
    "alexnet": Network(
        published.alexnet,
        published.AlexNet_Weights.IMAGENET1K_V1,
        "classifier.6",
        _small_alexnet,
    ),
    "vgg11": Network(
        published.vgg11_bn,
        published.VGG11_BN_Weights.IMAGENET1K_V1,
        "classifier.6",
        _small_vgg,
    ),
    "vgg16": Network(
        published.vgg16_bn,
        published.VGG16_BN_Weights.IMAGENET1K_V1,
        "classifier.6",
        _small_vgg,
    ),
    "resnet18": Network(
        published.resnet18, published.ResNet18_Weights.IMAGENET1K_V1, "fc", _small_resnet
    ),
    "resnet34": Network(
        published.resnet34, published.ResNet34_Weights.IMAGENET1K_V1, "fc", _small_resnet
    ),
    "resnet50": Network(
        published.resnet50, published.ResNet50_Weights.IMAGENET1K_V1, "fc", _small_resnet
    ),
    "googlenet": Network(
        published.googlenet,
        published.GoogLeNet_Weights.IMAGENET1K_V1,
        "fc",
        _small_googlenet,
        options=_NO_AUXILIARY,
        options_as_published=_OLD_NORMALIZATION,
        alone=_GoogLeNet,
        unused=("aux1.", "aux2."),
    ),
    "inception_v3": Network(
        published.inception_v3,
        published.Inception_V3_Weights.IMAGENET1K_V1,
        "fc",
        None,
        options=_NO_AUXILIARY,
        options_as_published=_OLD_NORMALIZATION,
        alone=_Inception,
        unused=("AuxLogits.",),
    ),
    "mobilenet_v3_small": Network(
        published.mobilenet_v3_small,
        published.MobileNet_V3_Small_Weights.IMAGENET1K_V1,
        "classifier.3",
        _small_mobilenet,
    ),
    "efficientnet_b0": Network(
        published.efficientnet_b0,
        published.EfficientNet_B0_Weights.IMAGENET1K_V1,
        "classifier.1",
        _small_efficientnet,
    ),
    "convnext_tiny": Network(
        published.convnext_tiny,
        published.ConvNeXt_Tiny_Weights.IMAGENET1K_V1,
        "classifier.2",
        _small_convnext,
    ),
    "vit_b_16": Network(
        published.vit_b_16,
        published.ViT_B_16_Weights.IMAGENET1K_V1,
        "heads.head",
        None,
        patch=16,
    ),
}


def build(settings: TrainConfig, classes: int, size: int) -> nn.Module:
    """One of NETWORKS, untrained, for images that reach it with size×size pixels.

    Raises ConfigError where they are not what it is made for.
    """
    network = NETWORKS[settings.model]
    small = settings.stem == "small"
    options = network.options if small else network.options | network.options_as_published
    if network.patch:
        _check_patches(settings, size)
        options = options | {"image_size": size}
    model = network.make(weights=None, num_classes=classes, **options)
    if network.alone:
        model.__class__ = network.alone
    if small and network.fit:
        network.fit(model, classes)
    return model


def _check_patches(settings: TrainConfig, size: int) -> None:
    """An image has to be cut into whole squares, and published weights know where each stands."""
    network = NETWORKS[settings.model]
    patch, published_size = network.patch, network.weights.meta["min_size"][0]
    if settings.pretrained and size != published_size:
        raise ConfigError(
            f"{settings.model} with published weights needs images of "
            f"{published_size}×{published_size} pixels, these have {size}×{size}: set input_size "
            f"to {published_size}."
        )
    if size % patch:
        raise ConfigError(
            f"{settings.model} cuts images into squares of {patch}×{patch} pixels, these have "
            f"{size}×{size}: set input_size to {-(-size // patch) * patch}."
        )
