"""A process reward model in this process: how likely each step of a solution is right, read as it grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from policies.engine import load
from policies.engine.worker import Outputs
from search.errors import ConfigError, VerifierError
from search.types import Cost, Prefix, Verdict
from verifiers.combine import HOW
from verifiers.reading import Layout, Reading


@dataclass(frozen=True)
class PRM(Reading):
    """A model with a two-label head, read where steps end; value of a step = probability of label 1, "right so far".

    For folders laid out as `Qwen2ForProcessRewardModel` (Zhang et al. 2025, "The Lessons of Developing Process Reward
    Models in Mathematical Reasoning") or `Qwen2ForTokenClassification`, over any backbone that `transformers` loads.
    A verdict's value is its last step's; `verifiers.combine.Aggregate` makes others. See `Reading` for the other
    settings and for where a step ends.

    Attributes:
        within: a segment that holds several lines (a completion sampled in one piece) is read at the end of each; how
            these become the value of the segment: last, min, mean or prod.

    Raises:
        ConfigError: on entry, if the folder has no such head; when built, if a setting is unknown.
        VerifierError: from `score`, for a prefix without steps (no step end, no score) and as `Reading.score`.
    """

    within: str = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.within not in HOW:
            raise ConfigError("within", self.within, f"give one of {', '.join(HOW)}")

    def _shaping(self) -> tuple[object, ...]:
        return (*super()._shaping(), self.within)

    def _weights(self, path: Path) -> load.Model:
        return load.scoring_model(path, self.dtype, self.device)

    async def _values(self, layout: Layout, known: int) -> tuple[tuple[float, ...], Outputs | None]:
        # a segment without ids (cut at once) is read where the one before it ended
        start = min(layout.bounds[known], *(marks[0] for marks in layout.marks[known:]))
        outputs = await self.engine.read(layout.ids, start)
        right = torch.softmax(outputs.values, -1)[:, 1].tolist()
        values = (HOW[self.within]([right[i - start] for i in marks]) for marks in layout.marks[known:])
        return tuple(values), outputs

    def _verdict(self, prefix: Prefix, values: tuple[float, ...], cost: Cost) -> Verdict:
        if not values:
            raise VerifierError("a prefix without steps has no step end at which to read a score")
        return Verdict(values[-1], values, cost)
