"""Evaluating 10,000 images: by our evaluator, eager PyTorch and ONNX Runtime at their best batch.

The model that ships, fp32, test images of the data set; each way loads its model beforehand and
turns uint8 pixels into logits. Ways take turns.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks import Row, in_turn, own_home
from imgcls import deployed, machine, runs
from imgcls.data import catalog
from imgcls.data.catalog import Images
from imgcls.evaluate import predictions
from imgcls.serve import served

IMAGES = 10_000
BATCHES = (32, 64, 128, 256, 512)
TRIED = 2_000  # images by which a way's best batch is found


def rows(dataset: str = "cifar10", repeats: int = 5) -> Iterator[Row]:
    """Images a second of each, ours against the quicker of the other two."""
    with own_home(dataset):
        images = np.ascontiguousarray(catalog.arrays(dataset, "test")[0][:IMAGES])
        machine.prepare(torch.device("cpu"))
        rivals = {"eager PyTorch": eager(), "ONNX Runtime": onnxruntime()}
        ways: dict[str, Callable[[], object]] = {"our evaluator": partial(ours(), images)}
        for name, way in rivals.items():
            best = quickest(way, images[:TRIED])
            ways[f"{name}, batches of {best}"] = partial(way, images, best)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _, which in in_turn(len(ways), repeats):
            name = list(ways)[which]
            start = time.perf_counter()
            ways[name]()
            rates[name].append(len(images) / (time.perf_counter() - start))
    own, *others = (Row(name, tuple(values), "images/s") for name, values in rates.items())
    yield from others
    yield replace(own, baseline=max(others, key=lambda row: row.median))


Way = Callable[[Images, int], object]  # images and how many at once


def quickest(way: Way, images: Images) -> int:
    """The batch with which a way answers most images a second, after one that is not counted."""
    way(images[: BATCHES[0]], BATCHES[0])
    taken = {}
    for batch in BATCHES:
        start = time.perf_counter()
        way(images, batch)
        taken[batch] = time.perf_counter() - start
    return min(taken, key=lambda batch: taken[batch])


def ours() -> Callable[[Images], object]:
    """As `predictions.compute` asks; it has its own batch."""
    asked = predictions.judge(runs.shipped())

    def answer(images: Images) -> object:
        with torch.inference_mode():
            return asked.answer(torch.from_numpy(images))

    return answer


def eager() -> Way:
    """The network behind its preprocessing, as a person would write it."""
    model, _ = deployed.load(runs.shipped().model_path, None)

    def answer(images: Images, batch: int) -> object:
        with torch.inference_mode():
            return [model(block)[0] for block in torch.from_numpy(images).split(batch)]

    return answer


def onnxruntime() -> Way:
    """The exported file."""
    logits = served.load(runs.shipped()).logits

    def answer(images: Images, batch: int) -> object:
        return [logits(images[i : i + batch]) for i in range(0, len(images), batch)]

    return answer
