"""The networks of the tutorials, layer for layer at 32×32, and LeNet-5.

Sizes of first linear layers follow the image's side, so that each also takes other squares.
"""

import torch.nn as nn


def softmax(classes: int, size: int) -> nn.Module:
    """Multinomial logistic regression: one linear layer on the pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))


def feedforward(classes: int, size: int) -> nn.Module:
    """3072-1650-512-138-10 at 32×32, ReLU between.

    Its tutorial also puts a ReLU on the logits. That can only lose: it makes all classes with a
    negative score equal and gives them no gradient. It is left out here.
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * size * size, 1650),
        nn.ReLU(),
        nn.Linear(1650, 512),
        nn.ReLU(),
        nn.Linear(512, 138),
        nn.ReLU(),
        nn.Linear(138, classes),
    )


def net(classes: int, size: int) -> nn.Module:
    """Convolutions 3→6→16 of 5×5, each with ReLU and 2×2 pooling, then 400-120-84-10."""
    side = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side * side, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def simple_cnn(classes: int, size: int) -> nn.Module:
    """Convolutions of 32 and 64 with batch norm and pooling, then 4096-512, dropout 0.5."""
    side = size // 4
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side * side, 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, classes),
    )


def cnn(classes: int, size: int) -> nn.Module:
    """Convolutions of 32, 64 and 64 channels with ReLU and pooling, then 1024-512-10."""
    side = size // 8
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * side * side, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )


def lenet5(classes: int, size: int) -> nn.Module:
    """LeNet-5 for colour images: tanh, average pooling, 6-16-120 convolutions, 84, classes.

    Source: LeCun et al. 1998, Gradient-based learning applied to document recognition, section
    II.B; with full connections in C3 and a linear output, as is usual today.
    """
    side = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(120 * (side - 4) ** 2, 84),
        nn.Tanh(),
        nn.Linear(84, classes),
    )
