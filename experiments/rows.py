"""The lines of results.jsonl: one per (item, seed)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from search.errors import ConfigError
from search.types import Cost


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one item under one seed; the fields of a line of results.jsonl.

    Attributes:
        answer: the final answer, as the task's grader reads it; None if there is none.
        correct: None where there is no reference answer.
        score: the verifier's, in [0, 1]; None if the chosen answer was never scored.
        stopped: "done", or the name of the limit that ended the search.
        wall: seconds.
        depth: steps on the longest path.
        candidates: complete answers found.
        error: kind and message of what failed; None if nothing did.
        trace: path of the item's trace, relative to the run folder.
    """

    item: str
    task: str
    search: str
    seed: int
    answer: str | None = None
    correct: bool | None = None
    score: float | None = None
    stopped: str = "done"
    cost: Cost = field(default_factory=Cost)
    wall: float = 0.0
    nodes: int = 0
    depth: int = 0
    candidates: int = 0
    error: str | None = None
    trace: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What a row is found by: item and seed."""
        return self.item, self.seed

    def to_json(self) -> str:
        """One line without its end; not a number becomes null."""
        values = asdict(self)
        if self.score is not None and math.isnan(self.score):
            values["score"] = None
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Row:
        """Raises ValueError if the line is not a row."""
        values = json.loads(line)
        if not isinstance(values, dict) or not isinstance(values.get("cost"), dict):
            raise ValueError("not a row of results")
        try:
            return cls(**{**values, "cost": Cost(**values["cost"])})
        except TypeError as error:
            raise ValueError(f"not a row of results: {error}") from None


def read_rows(folder: Path, setting: str = "out") -> list[Row]:
    """The rows of a run folder in the order of the file; a torn last line is left out.

    Raises:
        ConfigError: a line that is not the last cannot be read.
    """
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    *whole, _torn = lines  # what follows the last line end was cut off while being written
    rows = []
    for number, line in enumerate(whole, 1):
        try:
            rows.append(Row.from_json(line))
        except ValueError as error:
            raise ConfigError(
                setting, str(folder), f"line {number} of results.jsonl cannot be read ({error}); mend or move the file"
            ) from None
    return rows


def columns() -> list[str]:
    """The names of a row's fields, in order."""
    return [each.name for each in fields(Row)]
