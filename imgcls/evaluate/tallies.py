"""How many images a model calls right as they are and under changes, on disk; needs no torch."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls import config
from imgcls.errors import ImgclsError, RunError


@dataclass(frozen=True, eq=False)
class Tally:
    """Of how many images how many were right."""

    n: int
    unchanged: int  # right as they are
    right: NDArray[np.int64]  # (kinds of change, strengths)

    @property
    def clean(self) -> float:
        """Accuracy on the images as they are, 0..1."""
        return self.unchanged / self.n

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """(kinds of change, strengths), 0..1."""
        return self.right / self.n

    @property
    def mean(self) -> float:
        """Over all kinds and strengths alike, 0..1: of corruptions, mean corruption accuracy."""
        return float(self.accuracy.mean())


def read(path: Path, facts: Callable[[], Mapping[str, object]]) -> Tally | None:
    """What is stored; None where nothing is, or it is true of other facts than these."""
    try:
        with open(path, "rb") as binary, np.load(binary, allow_pickle=False) as file:
            if json.loads(str(file["facts"])) != facts():
                return None
            return Tally(int(file["n"]), int(file["clean"]), file["right"])
    except (ImgclsError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(
    save_as: Callable[[Callable[[Path], None]], None],
    tally: Tally,
    facts: Mapping[str, object],
    run: str,
) -> None:
    """Store by one of a run's own methods; raises RunError where the run was deleted meanwhile."""

    def write(path: Path) -> None:
        with open(path, "wb") as file:  # np.savez would add .npz to a path
            told = config.dumps(facts)
            np.savez(file, n=tally.n, clean=tally.unchanged, right=tally.right, facts=told)

    try:
        save_as(write)
    except FileNotFoundError:
        raise RunError(f"Run {run} was deleted while it was judged.") from None
