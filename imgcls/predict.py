"""Pictures in, probabilities out, with the preprocessing that travels with the model.

torch is imported where it is used, so that importing this module costs nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls import card, preprocess, runs
from imgcls.card import Card
from imgcls.data import spreadsheet
from imgcls.data.catalog import Images
from imgcls.errors import DataError, ModelError
from imgcls.evaluate import belief, calibrate, views
from imgcls.trust import Floats, Trust

if TYPE_CHECKING:
    from torch import Tensor

    from imgcls.deployed import Deployed


def predict(
    run_id: str,
    pictures: Sequence[tuple[str, bytes]],
    top: int = 5,
    coverage: float = 0.95,
    tta: bool = False,
) -> list[dict[str, Any]]:
    """What a run's model says of each picture (file name, file content), in their order.

    A picture that cannot be used is an entry with `file` and `error`, one sentence; any other has

        file     the name given, printable
        top      [{class, probability}], at most `top` of them, the likeliest first; 0..1
        calibrated  whether the probabilities went through a temperature; see `belief`
        known    whether the picture is like those that the model was made for; None where nothing
                 is known of that, as for a run that learned from its validation images
        labels   the classes that hold the true one with the coverage asked for, likeliest first;
                 None likewise
        notes    what was done to the picture, such as "first of 3 frames"
        seen     uint8 (size, size, 3), the picture as the model gets it
        seconds  from the file's bytes to the answer

    Each picture is judged by itself, so its answer does not depend on its neighbours. With `tta` it
    is the mean over `views.passes` views; its temperature stays that of plain answers.
    Raises RunError for an unknown run, ModelError where it has no usable model or answers NaN.
    """
    run = runs.get(run_id)
    card.read(run.model_path)  # says in a sentence what is missing, before stat() does
    known = belief.of_run(run)
    model, of_model = _model(run.model_path, run.model_path.stat().st_mtime_ns, known)

    def ask(pictures: "Tensor") -> "Tensor":
        if tta:
            return views.answer(model.network, model.inputs(pictures), run.config)
        logits: Tensor = model(pictures)[0]
        return logits

    return [_judge(ask, of_model, known, name, data, top, coverage) for name, data in pictures]


def to_csv(entries: Sequence[dict[str, Any]], most: int | None = None) -> str:
    """Predictions as a table for a spreadsheet: file, class, probability, runners-up, error.

    most: classes that a row has room for; as many as the longest of the entries names, if None.
    """
    if most is None:
        most = max((len(entry.get("top", ())) for entry in entries), default=1)
    ranks = [str(rank) if rank > 1 else "" for rank in range(1, max(most, 1) + 1)]
    taught = any("taught" in entry for entry in entries)  # what `taught.ask` says of new classes
    columns = [f"{name}{rank}" for rank in ranks for name in ("class", "probability")]
    rows = []
    for entry in entries:
        cells = [value for best in entry.get("top", ()) for value in best.values()]
        padding = [None] * (len(columns) - len(cells))
        known = {True: "yes", False: "no", None: None}[entry.get("known")]
        said = entry.get("taught")
        new = [said.name if said and said.is_new else None] * taught
        rows.append([entry["file"], *cells, *padding, known, *new, entry.get("error")])
    return spreadsheet.to_csv(["file", *columns, "known", *["taught"] * taught, "error"], rows)


@lru_cache(maxsize=2)
def _model(path: Path, mtime_ns: int, known: Trust | None) -> tuple["Deployed", Card]:
    # The modification time is in the key, so a run that goes on training is loaded anew.
    from imgcls import deployed

    return deployed.load(path, known)


def _judge(
    ask: Callable[["Tensor"], "Tensor"],
    of_model: Card,
    known: Trust | None,
    name: str,
    data: bytes,
    top: int,
    coverage: float,
) -> dict[str, Any]:
    import torch

    start = time.perf_counter()
    file = preprocess.printable(name)
    try:
        picture = preprocess.open_picture(data, name)
    except DataError as error:
        return {"file": file, "error": str(error)}
    seen = preprocess.to_pixels(picture.image, of_model.size, of_model.fit)
    with torch.inference_mode():
        logits = ask(torch.from_numpy(seen)[None]).numpy()
    if not np.isfinite(logits).all():
        raise ModelError(
            f"The model of {of_model.run} answers NaN or infinity: its training diverged. "
            "Train again with a lower peak_lr."
        )
    return {
        "file": file,
        **told(of_model, known, judged(known, logits, seen[None])[0], top, coverage),
        "notes": list(picture.notes),
        "seen": seen,
        "seconds": time.perf_counter() - start,
    }


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What is believed of one picture."""

    shares: Floats  # (classes,) probabilities, calibrated where they can be
    known: bool | None  # false for a picture unlike all that the model knows


def judged(known: Trust | None, logits: NDArray[np.float32], pictures: Images) -> list[Judged]:
    """From (N, classes) logits of (N, S, S, 3) pictures, as the model got them."""
    if known is None:
        return [Judged(softmax(row), None) for row in logits.astype(np.float64)]
    shares = calibrate.scaled(logits, known.temperature)
    return list(map(Judged, shares, known.known(pictures, shares).tolist()))


def told(
    about: Card, known: Trust | None, judged: Judged, top: int, coverage: float
) -> dict[str, Any]:
    """`top`, `calibrated`, `known` and `labels` of a picture's entry.

    coverage: one of `calibrate.COVERAGES`.
    """
    shares = judged.shares
    order = np.argsort(-shares, kind="stable")
    labels = None
    if known:
        least = known.label_sets[f"{coverage:g}"]
        labels = [about.classes[i] for i in order if shares[i] >= least]
    return {
        "top": [{"class": about.classes[i], "probability": float(shares[i])} for i in order[:top]],
        "calibrated": known is not None,
        "known": judged.known,
        "labels": labels,
    }
