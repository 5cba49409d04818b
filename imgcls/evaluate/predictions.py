"""Stored predictions of a run: computed once, read ever after, and void when anything changed.

With the logits goes what the last layer sees of each image, by which images are alike to the model.

A `split` is train, validation or test of the data set that a run learned from, or `DATASET/SPLIT`,
the images of another one with the same classes and size.

`load` needs no torch, so a page may call it; `compute` imports torch and takes its time.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls import card, config, runs
from imgcls.card import Card
from imgcls.data import catalog
from imgcls.data.catalog import Dataset, Images
from imgcls.errors import DataError, ImgclsError, ModelError, RunError
from imgcls.runs import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

HALF_RANGE = 65504.0  # the largest number of float16
FORMAT = 2  # of the files; raised when what is stored changes its meaning
MOST_FEATURES = 2048  # a wider last layer sees little more than pixels, and fills a disk
BATCH_PIXELS = 2**17  # images a batch times their pixels: 128 images of 32×32

Progress = Callable[[float, float, str], object]  # images done, images in all, what is done


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run's model answers for every image of a split, in the order of `catalog.select`."""

    run: str
    dataset: str
    split: str
    classes: tuple[str, ...]
    logits: NDArray[np.float32]  # (N, classes), finite
    labels: NDArray[np.int64]  # (N,), true classes
    indices: NDArray[np.int64]  # (N,), where each image stands in the arrays of `catalog.select`
    tta: bool = False  # whether each answer is an average over views of the image
    epoch: int | None = None  # after which the run answered so; None for the model that it kept

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """(N, classes), each row adds up to 1; the largest logit is subtracted first."""
        shares: NDArray[np.float64] = softmax(self.logits.astype(np.float64), axis=1)
        return shares

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,), the class of the largest logit; of equal ones the first."""
        best: NDArray[np.int64] = self.logits.argmax(1).astype(np.int64)
        return best

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(N,), 0..1: the probability of the predicted class."""
        largest: NDArray[np.float64] = self.probabilities.max(1)
        return largest

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,)"""
        same: NDArray[np.bool_] = self.predicted == self.labels
        return same


def load(run: Run, split: str, tta: bool = False) -> Predictions | None:
    """Stored predictions; None where there are none, or the model or data set is another by now.

    tta: those with test-time augmentation, which are stored beside the plain ones.

    Raises DataError for a split that no data set can have.
    """
    name, _ = place(run, split)
    catalog.path(name)  # a name that is none is refused
    try:
        classes = card.read(run.model_path).classes
        path = run.predictions_path(split, tta)
        with open(path, "rb") as binary, np.load(binary, allow_pickle=False) as file:
            told = json.loads(str(file["facts"]))
            stored = {name: file[name] for name in ("logits", "labels", "indices")}
        if told != facts(run, split):
            return None
    except (ImgclsError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Predictions(run.id, name, split, classes, **stored, tta=tta)


def is_stale(run: Run, split: str) -> bool:
    """Whether something is stored that `load` no longer takes: of another model, or other data."""
    return run.predictions_path(split).exists() and load(run, split) is None


def stored(run: Run, split: str) -> Predictions:
    """As `load`, but raises RunError where there are none."""
    found = load(run, split)
    if found is None:
        raise RunError(f"Nothing is stored of what {run.id} says of {split} images: evaluate it.")
    return found


def compute(run_id: str, split: str, progress: Progress | None = None, tta: bool = False) -> None:
    """Store what a run's model answers for a split, unless it is; with `tta` averaged over views.

    Raises RunError where the run has no model, DataError where its data set is gone, changed or
    without such a split, ModelError where the model does not fit or answers NaN.
    """
    run = runs.get(run_id)
    judged_images(run, split)  # says what is wrong before anything is written
    with run.judging(split):
        if load(run, split, tta) is None:  # another process may have been at it
            _compute(run, split, progress, tta)


def _compute(run: Run, split: str, progress: Progress | None, tta: bool) -> None:
    images, labels, indices = judged_images(run, split)
    # Taken before the weights are read: a model replaced in between leaves predictions that
    # `load` takes for stale, never for those of another model.
    told = config.dumps(facts(run, split))
    logits, features = _infer(run, images, indices, progress, tta)
    if not np.isfinite(logits).all():
        wrong = int((~np.isfinite(logits)).any(1).sum())
        raise ModelError(
            f"The model of {run.id} answers NaN or infinity for {wrong:,} of {len(logits):,} "
            f"{split} images: its training diverged. Train again with a lower peak_lr."
        )

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # np.savez would add .npz to a path
            np.savez(file, logits=logits, labels=labels[indices], indices=indices, facts=told)

    def write_features(path: Path) -> None:
        assert features is not None
        with open(path, "wb") as file:
            np.save(file, features)

    try:
        if features is not None:  # first: they count only beside logits of the same model
            run.save_features(split, write_features)
        run.save_predictions(split, write, tta)
    except FileNotFoundError:
        raise RunError(f"Run {run.id} was deleted while it was evaluated.") from None


def features(run: Run, split: str) -> NDArray[np.float16] | None:
    """(N, width) of what the last layer sees of each image, mapped from disk, rows as in `load`.

    None where no predictions are stored, or the network has no such layer, or one too wide.
    """
    found = load(run, split)
    try:
        stored: NDArray[np.float16] = np.load(run.features_path(split), mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return stored if found is not None and len(stored) == len(found.labels) else None


def nearest(
    features: NDArray[np.float16], to: NDArray[np.float16], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows of (N, width) features whose direction is most like that of (width,), and the cosines.

    Nearest first. What has no direction, all zeros, is like nothing: 0.
    """
    many, one = np.asarray(features, np.float32), np.asarray(to, np.float32)
    lengths = np.sqrt(np.einsum("nw,nw->n", many, many)) * np.linalg.norm(one)  # no copy of all
    cosines = np.divide(many @ one, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    rows = np.argsort(-cosines, kind="stable")[:count]
    return rows.astype(np.int64), cosines[rows].astype(np.float64)


def judged_images(run: Run, split: str) -> tuple[Images, NDArray[np.int64], NDArray[np.int64]]:
    """Images, labels, and the rows of both to judge a run by; raises what `compute` does."""
    name, part = place(run, split)
    of_model, dataset = card.read(run.model_path), catalog.load(name)
    _check_fit(run, of_model, dataset)
    share, seed = run.config.validation_share, run.config.split_seed
    images, labels, indices = catalog.select(name, part, share, seed)
    if not len(indices):
        raise DataError(f"{name} has no {part} images to judge {run.id} by.")
    return images, labels, indices


@dataclass(frozen=True, eq=False)
class Judge:
    """A run's model on the device that answers quickest."""

    model: "nn.Module"  # in evaluation mode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: "torch.device"
    batch_size: int

    def answer(self, images: "Tensor") -> "Tensor":
        """(N, H, W, 3) uint8 on the device to (N, classes) float32 logits, in batches."""
        import torch

        from imgcls.data.tensors import normalize

        parts = images.split(self.batch_size)
        return torch.cat([self.model(normalize(p, self.mean, self.std)).float() for p in parts])

    def of_pixels(self, pixels: "Tensor") -> "Tensor":
        """(N, 3, H, W) floats in 0..1 to (N, classes) float32 logits; gradients flow through."""
        mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        logits: Tensor = self.model((pixels - mean) / std).float()
        return logits


def judge(run: Run) -> Judge:
    """Load a run's model; raises ModelError where its file is missing or damaged."""
    import torch

    from imgcls import machine, models

    device = machine.device("auto")
    model, of_model = models.load(run.model_path)
    model = model.to(device).to(memory_format=torch.channels_last)
    side = max(of_model.size, of_model.architecture.get("input_size", 0))
    return Judge(model, of_model.mean, of_model.std, device, max(1, BATCH_PIXELS // side**2))


def pictures(run: Run, split: str, rows: NDArray[np.int64]) -> Images:
    """The images behind rows of a run's predictions: uint8 (len(rows), size, size, 3)."""
    share, seed = run.config.validation_share, run.config.split_seed
    images, _, indices = catalog.select(*place(run, split), share, seed)
    return images[indices[rows]]


def place(run: Run, split: str) -> tuple[str, str]:
    """The data set that a split of a run is of, and its split there; DataError for none."""
    dataset, _, part = split.rpartition("/")
    if part not in catalog.SPLITS:
        raise DataError(
            f"No split named {split[:80]!r}. Choose one of: {', '.join(catalog.SPLITS)}; those of "
            "another data set as NAME/test."
        )
    return dataset or run.config.dataset, part


def fitting(run: Run) -> list[str]:
    """The data sets on disk that a run's model can be judged by: its own, then others by name."""
    of_model, found = card.read(run.model_path), [run.config.dataset]
    for name in catalog.names():
        try:
            dataset = catalog.load(name)
        except DataError:
            continue  # damaged: Explore says so
        if name not in found and (dataset.classes, dataset.size) == (
            of_model.classes,
            of_model.size,
        ):
            found.append(name)
    return found


def caution(run: Run, split: str) -> str:
    """What a reader must know before trusting figures on this split; empty for an honest test."""
    if run.config.recipe == "imported":
        return "Nobody recorded which images this imported model has learned from."
    if place(run, split)[0] != run.config.dataset:
        return (
            f"The model learned from {run.config.dataset}: whether some of these images are among "
            "those it learned from, nobody checked."
        )
    if learned(run, split):
        return "The model has learned from these images: this says little about new ones."
    if split == "validation":
        return "The weights were chosen by these images: expect slightly less on new ones."
    return ""


def learned(run: Run, split: str) -> bool:
    """Whether the model has, or may have, learned from the images of this split."""
    dataset, part = place(run, split)
    if run.config.recipe == "imported":
        return True
    if dataset != run.config.dataset:
        return False
    return part == "train" or (part == "validation" and run.config.train_on == "train+validation")


def fits_on_validation(run: Run, split: str) -> bool:
    """Whether what is fitted on the run's validation images may be judged by this split."""
    held = (run.config.dataset, "validation")
    return place(run, split) != held and not learned(run, "validation")


def _infer(
    run: Run, images: Images, indices: NDArray[np.int64], progress: Progress | None, tta: bool
) -> tuple[NDArray[np.float32], NDArray[np.float16] | None]:
    """Logits, and features where there are some and each image is seen once."""
    import torch

    from imgcls.data.tensors import normalize
    from imgcls.evaluate import views

    asked, logits = judge(run), []
    seen, width = ([], 0) if tta else _listen(asked.model)
    features = np.empty((len(indices), width), np.float16) if width else None
    with torch.inference_mode():
        for start in range(0, len(indices), asked.batch_size):
            rows = indices[start : start + asked.batch_size]
            block = torch.from_numpy(images[rows]).to(asked.device)
            if tta:
                inputs = normalize(block, asked.mean, asked.std)
                answer = views.answer(asked.model, inputs, run.config).float()
            else:
                answer = asked.answer(block)
            logits.append(answer.cpu().numpy())
            if features is not None:
                features[start : start + len(block)] = _half(seen.pop())
            if progress:
                progress(start + len(block), len(indices), "images judged")
    return np.concatenate(logits), features


def see(run_id: str, images: Images) -> NDArray[np.float16] | None:
    """(N, width) of what a run's last layer sees of (N, size, size, 3) images, as `features`."""
    import torch

    run = runs.get(run_id)
    asked, seen, width = _listening(run, run.model_path.stat().st_mtime_ns)
    if not width:
        return None
    seen.clear()
    with torch.inference_mode():
        asked.answer(torch.from_numpy(images).to(asked.device))
    return np.concatenate([_half(block) for block in seen])


@lru_cache(maxsize=2)
def _listening(run: Run, changed: int) -> tuple[Judge, list["Tensor"], int]:
    # The modification time is in the key, so a run that goes on training is loaded anew.
    asked = judge(run)
    return asked, *_listen(asked.model)


def _listen(model: "nn.Module") -> tuple[list["Tensor"], int]:
    """A list to which each pass appends what the last layer gets, and how wide; 0 for none."""
    import torch

    seen: list[Tensor] = []
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1:]
    if not last or last[0].in_features > MOST_FEATURES:
        return seen, 0
    last[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen, last[0].in_features


def _half(seen: "Tensor") -> NDArray[np.float16]:
    kept = seen.float().nan_to_num().clamp(-HALF_RANGE, HALF_RANGE)
    half: NDArray[np.float16] = kept.half().cpu().numpy()
    return half


def facts(run: Run, split: str) -> dict[str, object]:
    """What stored answers to a split are true of; they are void as soon as one of these differs.

    Raises RunError where the run has no model, DataError where its data set is gone.
    """
    name, _ = place(run, split)
    try:
        data = catalog.load(name).fingerprint
    except DataError:
        # The model that ships comes with its answers and without its data.
        if run.id != runs.SHIPPED or name != run.config.dataset:
            raise
        data = run.facts["fingerprint"]
    try:
        status = run.model_path.stat()
    except FileNotFoundError:
        raise RunError(f"Run {run.id} has no model.") from None
    return {
        "format": FORMAT,
        "model": _sha256(run.model_path, status.st_mtime_ns, status.st_size),
        "data": data,
    }


@lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    # Modification time and size are in the key, so a replaced model is read anew.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_fit(run: Run, of_model: Card, dataset: Dataset) -> None:
    if of_model.classes != dataset.classes or of_model.size != dataset.size:
        raise ModelError(
            f"The model of {run.id} has {len(of_model.classes)} classes at {of_model.size} pixels, "
            f"{dataset.name} has {len(dataset.classes)} at {dataset.size}, or they differ in name: "
            "train a new run on this data set."
        )
    own = dataset.name == run.config.dataset
    if own and run.facts["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{dataset.name} is no longer the data set that {run.id} learned from: "
            "bring the old one back, or train again."
        )
