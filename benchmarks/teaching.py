"""A class that a model never saw, taught from a few pictures: what it gains, and what it costs.

For each of some classes: a data set without it, `speed-fast` trained on that, then 5, 10 and 20
training images of the class, drawn many times; known images are the run's validation images. Judged
by test images, those of the class among them.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks import Row, own_home
from imgcls import jobs, runs, taught
from imgcls.data import catalog
from imgcls.errors import RunError
from imgcls.evaluate import predictions
from imgcls.runs import Run

RECIPE = "speed-fast"
SHOTS = (5, 10, 20)
DRAWS = 20
CANDIDATES = 1000  # training images of the class that pictures are drawn from


def rows(dataset: str = "cifar10", repeats: int = 5) -> Iterator[Row]:
    """Over as many classes as `repeats` says, a mean over draws each."""
    with own_home(dataset):
        held = catalog.load(dataset).classes[:repeats]
        yield from summary([measure(trained(without(dataset, one)), dataset, one) for one in held])


def without(dataset: str, held: str) -> str:
    """Publish a data set without one of its classes; its name."""
    whole = catalog.load(dataset)
    index, splits = whole.classes.index(held), {}
    for split in whole.splits:
        images, labels = catalog.arrays(dataset, split)
        rows = np.flatnonzero(labels != index)
        splits[split] = images[rows], labels[rows] - (labels[rows] > index)
    name = f"without-{held}"
    with catalog.publishing(name) as draft:
        catalog.write(
            draft, name=name, classes=tuple(one for one in whole.classes if one != held),
            splits=splits, resized=whole.resized, source=f"{dataset} without {held}",
        )  # fmt: skip
    return name


def trained(dataset: str) -> Run:
    """A run of RECIPE, trained as the app trains it."""
    command = [sys.executable, "-m", "imgcls", "train", "--recipe", RECIPE, "--dataset", dataset]
    environment = {**jobs.ENVIRONMENT, **os.environ}
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
        raise RunError(f"{RECIPE} on {dataset} did not end well.")
    return runs.all_runs()[0]


def measure(run: Run, dataset: str, held: str) -> dict[str, float]:
    """Shares by name: `known` and `new` images called right, before and after so many shots."""
    for split in ("validation", "test"):
        predictions.compute(run.id, split)
    known, answers = taught.known_images(run), predictions.stored(run, "test")
    seen = predictions.features(run, "test")
    index = catalog.load(dataset).classes.index(held)
    few, many = (_of_class(run, dataset, split, index) for split in ("train", "test"))
    assert known is not None
    assert seen is not None
    told = {"known": float(answers.correct.mean())}
    chance = np.random.default_rng(0)
    for shots in SHOTS:
        kept, found = [], []
        for _ in range(DRAWS):
            drawn = few[chance.permutation(len(few))[:shots]]
            new = taught.fit(known, {held: drawn})
            kept.append(answers.correct & ~_called_new(new, seen))
            found.append(_called_new(new, many))
        told[f"known {shots}"] = float(np.mean(kept))
        told[f"new {shots}"] = float(np.mean(found))
        told[f"sd {shots}"] = float(np.std([one.mean() for one in found]))
    return told


def _of_class(run: Run, dataset: str, split: str, index: int) -> NDArray[np.float16]:
    images, labels = catalog.arrays(dataset, split)
    features = predictions.see(run.id, images[np.flatnonzero(labels == index)[:CANDIDATES]])
    assert features is not None
    return features


def _called_new(new: taught.Taught, features: NDArray[np.float16]) -> NDArray[np.bool_]:
    return np.array([one.is_new for one in new.say(features.astype(np.float32))])


def summary(found: list[dict[str, float]]) -> Iterator[Row]:
    """A row for each share, a value a class."""
    before = Row("known test images right, nothing taught", _percent(found, "known"), "%")
    yield before
    for shots in SHOTS:
        right = _percent(found, f"known {shots}")
        yield Row(f"known test images right, {shots} pictures taught", right, "%", before)
        spread = np.mean([one[f"sd {shots}"] for one in found])
        note = f"± {100 * spread:.1f} over {DRAWS} draws"
        yield Row(
            f"the new class's test images called so, {shots} pictures",
            _percent(found, f"new {shots}"), "%", note=note,
        )  # fmt: skip


def _percent(found: list[dict[str, float]], name: str) -> tuple[float, ...]:
    return tuple(100 * one[name] for one in found)
