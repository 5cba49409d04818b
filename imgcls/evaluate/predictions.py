"""Stored predictions of a run: computed once, read ever after, and void when anything changed.

`load` needs no torch, so a page may call it; `compute` imports torch and takes its time.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls import card, config, runs
from imgcls.card import Card
from imgcls.data import catalog
from imgcls.data.catalog import Dataset, Images
from imgcls.errors import DataError, ImgclsError, ModelError, RunError
from imgcls.runs import Run

FORMAT = 1  # of the file; raised when what is stored changes its meaning
BATCH_PIXELS = 2**17  # images a batch times their pixels: 128 images of 32×32

Progress = Callable[[float, float, str], object]  # images done, images in all, what is done


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run's model answers for every image of a split, in the order of `catalog.select`."""

    run: str
    dataset: str
    split: str  # train, validation or test
    classes: tuple[str, ...]
    logits: NDArray[np.float32]  # (N, classes), finite
    labels: NDArray[np.int64]  # (N,), true classes
    indices: NDArray[np.int64]  # (N,), where each image stands in the arrays of `catalog.select`
    tta: bool = False  # whether each answer is an average over views of the image

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
    _check_split(split)
    try:
        dataset = catalog.load(run.config.dataset)
        path = run.predictions_path(split, tta)
        with open(path, "rb") as binary, np.load(binary, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            stored = {name: file[name] for name in ("logits", "labels", "indices")}
        if facts != _facts(run, dataset):
            return None
    except (ImgclsError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Predictions(run.id, dataset.name, split, dataset.classes, **stored, tta=tta)


def compute(run_id: str, split: str, progress: Progress | None = None, tta: bool = False) -> None:
    """Run a run's model over a split and store what it answers, with `tta` averaged over views.

    Raises RunError where the run has no model, DataError where its data set is gone, changed or
    without such a split, ModelError where the model does not fit or answers NaN.
    """
    _check_split(split)
    run = runs.get(run_id)
    of_model, dataset = card.read(run.model_path), catalog.load(run.config.dataset)
    _check_fit(run, of_model, dataset)
    # Taken before the weights are read: a model replaced in between leaves predictions that
    # `load` takes for stale, never for those of another model.
    facts = config.dumps(_facts(run, dataset))
    share, seed = run.config.validation_share, run.config.split_seed
    images, labels, indices = catalog.select(dataset.name, split, share, seed)
    if not len(indices):
        raise DataError(f"{dataset.name} has no {split} images to judge {run.id} by.")
    logits = _infer(run, images, indices, progress, tta)
    if not np.isfinite(logits).all():
        wrong = int((~np.isfinite(logits)).any(1).sum())
        raise ModelError(
            f"The model of {run.id} answers NaN or infinity for {wrong:,} of {len(logits):,} "
            f"{split} images: its training diverged. Train again with a lower peak_lr."
        )

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # np.savez would add .npz to a path
            np.savez(file, logits=logits, labels=labels[indices], indices=indices, facts=facts)

    try:
        run.save_predictions(split, write, tta)
    except FileNotFoundError:
        raise RunError(f"Run {run.id} was deleted while it was evaluated.") from None


def pictures(run: Run, split: str, rows: NDArray[np.int64]) -> Images:
    """The images behind rows of a run's predictions: uint8 (len(rows), size, size, 3)."""
    share, seed = run.config.validation_share, run.config.split_seed
    images, _, indices = catalog.select(run.config.dataset, split, share, seed)
    return images[indices[rows]]


def caution(run: Run, split: str) -> str:
    """What a reader must know before trusting figures on this split; empty for an honest test."""
    if run.config.recipe == "imported":
        return "Nobody recorded which images this imported model has learned from."
    if learned(run, split):
        return "The model has learned from these images: this says little about new ones."
    if split == "validation":
        return "The weights were chosen by these images: expect slightly less on new ones."
    return ""


def learned(run: Run, split: str) -> bool:
    """Whether the model has, or may have, learned from the images of this split."""
    if run.config.recipe == "imported" or split == "train":
        return True
    return split == "validation" and run.config.train_on == "train+validation"


def fits_on_validation(run: Run, split: str) -> bool:
    """Whether what is fitted on the run's validation images may be judged by this split."""
    return split != "validation" and not learned(run, "validation")


def _infer(
    run: Run, images: Images, indices: NDArray[np.int64], progress: Progress | None, tta: bool
) -> NDArray[np.float32]:
    import torch

    from imgcls import machine, models
    from imgcls.data.tensors import normalize
    from imgcls.evaluate import views

    device = machine.device("auto")
    model, of_model = models.load(run.model_path)
    model = model.to(device).to(memory_format=torch.channels_last)
    side = max(of_model.size, of_model.architecture.get("input_size", 0))
    batch_size = max(1, BATCH_PIXELS // side**2)
    logits = np.empty((len(indices), len(of_model.classes)), np.float32)
    with torch.inference_mode():
        for start in range(0, len(indices), batch_size):
            block = torch.from_numpy(images[indices[start : start + batch_size]]).to(device)
            inputs = normalize(block, of_model.mean, of_model.std)
            answer = views.answer(model, inputs, run.config) if tta else model(inputs)
            logits[start : start + len(block)] = answer.float().cpu().numpy()
            if progress:
                progress(start + len(block), len(indices), "images judged")
    return logits


def _facts(run: Run, dataset: Dataset) -> dict[str, object]:
    """What the stored logits are true of; they are void as soon as one of these differs."""
    try:
        status = run.model_path.stat()
    except FileNotFoundError:
        raise RunError(f"Run {run.id} has no model.") from None
    return {
        "format": FORMAT,
        "model": _sha256(run.model_path, status.st_mtime_ns, status.st_size),
        "data": dataset.fingerprint,
    }


@lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    # Modification time and size are in the key, so a replaced model is read anew.
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_split(split: str) -> None:
    if split not in catalog.SPLITS:
        raise DataError(
            f"No split named {split[:80]!r}. Choose one of: {', '.join(catalog.SPLITS)}."
        )


def _check_fit(run: Run, of_model: Card, dataset: Dataset) -> None:
    if of_model.classes != dataset.classes or of_model.size != dataset.size:
        raise ModelError(
            f"The model of {run.id} has {len(of_model.classes)} classes at {of_model.size} pixels, "
            f"{dataset.name} has {len(dataset.classes)} at {dataset.size}, or they differ in name: "
            "train a new run on this data set."
        )
    if run.facts["fingerprint"] != dataset.fingerprint:
        raise DataError(
            f"{dataset.name} is no longer the data set that {run.id} learned from: "
            "bring the old one back, or train again."
        )
