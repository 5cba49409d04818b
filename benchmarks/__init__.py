"""What is measured, and how a measurement is written down."""

import math
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgcls.data import catalog


@dataclass(frozen=True)
class Row:
    """One thing measured several times.

    Values are infinite where a goal was not reached. Those of a baseline stand in the same order:
    each was measured next to its partner, since a machine's speed drifts by the minute. Raises
    ValueError where some lack a partner.
    """

    what: str
    values: tuple[float, ...]
    unit: str
    baseline: "Row | None" = None  # what the ratio is against
    note: str = ""  # why there are no values, or what they do not tell

    def __post_init__(self) -> None:
        if self.baseline and len(self.baseline.values) != len(self.values):
            raise ValueError(f"{self.what} and {self.baseline.what} do not go in pairs.")

    @property
    def median(self) -> float:
        """The middle of what was measured; NaN where nothing was."""
        return statistics.median(self.values) if self.values else math.nan

    @property
    def ratios(self) -> tuple[float, ...]:
        """Each value over its partner's; a pair of which neither reached its goal has none."""
        if not self.baseline:
            return ()
        pairs = zip(self.values, self.baseline.values, strict=True)
        return tuple(a / b for a, b in pairs if math.isfinite(a) or math.isfinite(b))

    @property
    def ratio(self) -> float:
        """The middle of the ratios; NaN where there are none."""
        return statistics.median(self.ratios) if self.ratios else math.nan


def in_turn(count: int, repeats: int) -> Iterator[tuple[int, int]]:
    """(round, which) of `count` things, each once a round, another one first in each."""
    for round in range(repeats):
        for i in range(count):
            yield round, (round + i) % count


@contextmanager
def own_home(*datasets: str) -> Iterator[Path]:
    """A temporary IMGCLS_HOME with links to these data sets of the user's; gone with the block.

    Raises DataError where one of them is not there.
    """
    for name in datasets:
        catalog.load(name)
    there, before = catalog.root().resolve(), os.environ.get("IMGCLS_HOME")
    with tempfile.TemporaryDirectory(prefix="imgcls-bench-") as folder:
        home = Path(folder)
        (home / "datasets").mkdir()
        for name in datasets:
            (home / "datasets" / name).symlink_to(there / name, target_is_directory=True)
        os.environ["IMGCLS_HOME"] = folder
        try:
            yield home
        finally:
            if before is None:
                del os.environ["IMGCLS_HOME"]
            else:
                os.environ["IMGCLS_HOME"] = before
