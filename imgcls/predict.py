"""Pictures in, probabilities out, with the preprocessing that travels with the model.

torch is imported where it is used, so that importing this module costs nothing.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from imgcls import card, preprocess, runs
from imgcls.card import Card
from imgcls.data import spreadsheet
from imgcls.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import nn


def predict(
    run_id: str, pictures: Sequence[tuple[str, bytes]], top: int = 5
) -> list[dict[str, Any]]:
    """What a run's model says of each picture (file name, file content), in their order.

    A picture that cannot be used is an entry with `file` and `error`, one sentence; any other has

        file     the name given, printable
        top      [{class, probability}], at most `top` of them, the likeliest first; 0..1
        known    None: whether the picture is of a kind the model has learned is not measured yet
        notes    what was done to the picture, such as "first of 3 frames"
        seen     uint8 (size, size, 3), the picture as the model gets it
        seconds  from the file's bytes to the answer

    Each picture is judged by itself, so its answer does not depend on its neighbours.
    Raises RunError for an unknown run, ModelError where it has no usable model or answers NaN.
    """
    run = runs.get(run_id)
    card.read(run.model_path)  # says in a sentence what is missing, before stat() does
    model, of_model = _model(run.model_path, run.model_path.stat().st_mtime_ns)
    return [_judge(model, of_model, name, data, top) for name, data in pictures]


def to_csv(entries: Sequence[dict[str, Any]]) -> str:
    """Predictions as a table for a spreadsheet: file, class, probability, runners-up, error."""
    most = max((len(entry.get("top", ())) for entry in entries), default=1)
    ranks = [str(rank) if rank > 1 else "" for rank in range(1, max(most, 1) + 1)]
    columns = [f"{name}{rank}" for rank in ranks for name in ("class", "probability")]
    rows = []
    for entry in entries:
        cells = [value for best in entry.get("top", ()) for value in best.values()]
        padding = [None] * (len(columns) - len(cells))
        rows.append([entry["file"], *cells, *padding, entry.get("error")])
    return spreadsheet.to_csv(["file", *columns, "error"], rows)


@lru_cache(maxsize=2)
def _model(path: Path, mtime_ns: int) -> tuple["nn.Module", Card]:
    # The modification time is in the key, so a run that goes on training is loaded anew.
    from imgcls import models

    return models.load(path)


def _judge(model: "nn.Module", of_model: Card, name: str, data: bytes, top: int) -> dict[str, Any]:
    import torch

    from imgcls.data.tensors import normalize

    start = time.perf_counter()
    file = preprocess.printable(name)
    try:
        picture = preprocess.open_picture(data, name)
    except DataError as error:
        return {"file": file, "error": str(error)}
    seen = preprocess.to_pixels(picture.image, of_model.size, of_model.fit)
    with torch.inference_mode():
        batch = normalize(torch.from_numpy(seen)[None], of_model.mean, of_model.std)
        logits = model(batch)[0].double().numpy()
    if not np.isfinite(logits).all():
        raise ModelError(
            f"The model of {of_model.run} answers NaN or infinity: its training diverged. "
            "Train again with a lower peak_lr."
        )
    shares = softmax(logits)
    best = np.argsort(-shares, kind="stable")[:top]
    return {
        "file": file,
        "top": [{"class": of_model.classes[i], "probability": float(shares[i])} for i in best],
        "known": None,
        "notes": list(picture.notes),
        "seen": seen,
        "seconds": time.perf_counter() - start,
    }
