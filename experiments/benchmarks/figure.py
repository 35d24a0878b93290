"""What a benchmark says."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        figure: its name, "benchmark.what".
        value: the median over repeats.
        unit: of value, low and high; "ratio" where two things are compared.
        low, high: the spread over repeats.
        note: what was measured, in a few words.
    """

    figure: str
    value: float
    unit: str
    low: float
    high: float
    note: str

    def to_json(self) -> str:
        """One line; raises ValueError for a number that is not finite."""
        return json.dumps(asdict(self), allow_nan=False)


def measured(figure: str, unit: str, note: str, values: list[float]) -> Figure:
    """The figure of repeated measurements."""
    return Figure(figure, statistics.median(values), unit, min(values), max(values), note)
