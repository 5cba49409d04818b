"""A model that another imgcls exported as safetensors, read as a file that a stranger made.

The file holds weights and text; nothing in it can run. What the text says is checked before a
network is built from it, and the weights before they are believed.
"""

import json
from datetime import datetime
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from imgcls import card, config, models, runs
from imgcls.card import FORMAT, Card
from imgcls.config import TrainConfig
from imgcls.data import catalog
from imgcls.data.importer import SIZES
from imgcls.data.sources import class_name
from imgcls.errors import ConfigError, DataError, ImgclsError, ModelError
from imgcls.evaluate.calibrate import COVERAGES
from imgcls.events import Ended
from imgcls.models import foreign
from imgcls.preprocess import FITS
from imgcls.runs import Run
from imgcls.trust import Trust, appearance

CLASSES = (2, 10_000)
LONGEST = 200  # characters of a name
MOST = 1e30  # the largest number
TEMPERATURES = (0.01, 100.0)
HEADER = 16 * 2**20  # bytes of text in the file


def import_run(file: Path, now: datetime) -> Run:
    """A finished run, recipe `imported`, of an exported safetensors file.

    What is known of its confidence comes along. Raises ModelError for a file that is damaged, that
    imgcls did not write, or whose weights do not fit its card; then there is no run.
    """
    content = foreign.read(file)
    about, trust = _told(file.name, content)
    settings = _settings(file.name, about)
    model = models.build(settings, len(about.classes), about.size, fetch=False)
    try:
        state = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise _damaged(file.name, str(error)) from None
    foreign.fill(model, state, file.name, f"{settings.model} as its card has it")
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, about.size, about.size))
    except RuntimeError:
        raise _damaged(
            file.name, f"its network takes no pictures of {about.size}×{about.size} pixels"
        ) from None
    run = runs.create(settings, about.fingerprint, now)
    run.save_model(lambda path: models.save(path, model, about))
    if trust:
        run.trust_path.write_text(config.dumps(trust) + "\n", encoding="utf-8")
    reason = f"Imported from {file.name}, a model of the run {about.run}; not trained here."
    run.append(Ended(time=time(), state="finished", step=0, reason=reason))
    return run


def _told(name: str, content: bytes) -> tuple[Card, dict[str, Any] | None]:
    """The card, and what is known of the model's confidence if anything is; both checked."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(HEADER, len(content) - 8):
        raise _damaged(name, "its header does not fit into it")
    try:
        told = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        if told.get("format") != FORMAT:
            raise ModelError(f"{name} was not written by this version of imgcls: export it again.")
        values = json.loads(told["card"])
        trust = json.loads(told.get("trust", "null"))
        for field in ("classes", "mean", "std"):
            values[field] = tuple(values[field])
        about = Card(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(name, "its card cannot be read") from None
    try:
        why = _wrong(about)
    except DataError as error:
        why = str(error)
    if why:
        raise _damaged(name, why)
    if trust is not None and (why := _wrong_trust(trust, about.size)):
        raise _damaged(name, why)
    return about, trust


def _wrong(about: Card) -> str:
    """What a card says that cannot be, empty for nothing; DataError for a class's name."""
    texts = (about.run, about.recipe, about.dataset, about.fingerprint)
    checks = {
        "names that are none": all(
            isinstance(text, str) and 0 < len(text) <= LONGEST and text.isprintable()
            for text in texts
        ),
        f"{len(about.classes)} classes, or one twice": (
            all(isinstance(one, str) and class_name(one) == one for one in about.classes)
            and CLASSES[0] <= len(set(about.classes)) == len(about.classes) <= CLASSES[1]
        ),
        "a size that is none": (
            type(about.size) is int and SIZES[0] <= about.size <= SIZES[1] and about.fit in FITS
        ),
        "a normalisation that is none": all(
            len(three) == 3 and _numbers(three) for three in (about.mean, about.std)
        )
        and min(about.std) > 0,
        "an epoch or an accuracy that is none": type(about.epoch) is int
        and (about.val_accuracy is None or _numbers([about.val_accuracy])),
    }
    return next((f"its card tells of {what}" for what, good in checks.items() if not good), "")


def _wrong_trust(told: Any, size: int) -> str:
    """As `_wrong`, of what is known of a model's confidence in size×size pictures."""
    try:
        found = Trust.from_dict(told)
        width = found.center.size
        good = (
            isinstance(found.source, str)
            and type(found.n) is int
            and _numbers([found.temperature, found.limit, *found.label_sets.values()])
            and TEMPERATURES[0] <= found.temperature <= TEMPERATURES[1]
            and found.limit >= 0
            and found.center.shape == appearance(np.zeros((1, size, size, 3), np.uint8))[0].shape
            and set(found.label_sets) == {f"{one:g}" for one in COVERAGES}
            and found.precision.shape == (width, width)
            and all(
                ranks.ndim == 1 and len(ranks) and (np.diff(ranks) >= 0).all()
                for ranks in (found.strangeness, found.doubt)
            )
            and all(
                _numbers(values.ravel().tolist())
                for values in (found.center, found.precision, found.strangeness, found.doubt)
            )
        )
    except (TypeError, ValueError, AttributeError, KeyError):
        good = False
    return "" if good else "what it tells of the model's confidence is none"


def _numbers(values: Any) -> bool:
    return all(type(one) in (int, float) and abs(one) <= MOST for one in values)  # so no NaN


def _settings(name: str, about: Card) -> TrainConfig:
    """Of the run to be made; its architecture is the card's."""
    try:
        catalog.path(about.dataset)  # refuses a name that is none
        if about.architecture.keys() != card.architecture(TrainConfig()).keys():
            raise ConfigError("it has other settings than an architecture")
        settings = TrainConfig.from_dict(
            {**about.architecture, "dataset": about.dataset, "recipe": "imported"}
        )
    except (ImgclsError, TypeError, AttributeError) as error:
        raise _damaged(name, f"its card tells of no network of ours: {error}") from None
    return settings


def _damaged(name: str, why: str) -> ModelError:
    return ModelError(f"{name} is of no use: {why[:300].rstrip('.')}. Export it again.")
