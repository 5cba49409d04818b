"""What is measured, and how a measurement is written down."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One thing measured several times."""

    what: str
    values: tuple[float, ...]
    unit: str
    baseline: "Row | None" = None  # what the ratio is against

    @property
    def median(self) -> float:
        """The middle of what was measured."""
        return statistics.median(self.values)
