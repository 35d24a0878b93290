"""A stronger language model as a judge without training: how much less it likes a step than its own best tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from policies.engine import load
from policies.engine.calls import Outputs
from search.errors import ConfigError
from search.types import Cost, Prefix, Verdict
from verifiers.reading import Layout, Reading


@dataclass(frozen=True)
class Regret(Reading):
    """Value of a prefix = exp(scale * sum over its answer tokens of (log p(token) - max over v of log p(v))).

    1 where the judge would have written the same greedily; every token it finds less likely than its own choice
    lowers it, so values never rise along a path. Step values are the factors of the steps, their product the value
    (so `Aggregate` with "prod" changes nothing, and "min" is the worst step). A prefix without steps has value 1.
    Works with any language model folder that knows more of the domain than the policy; not a published method.

    Attributes:
        scale: at least 0; 0.5 suits scores that are compared between siblings, smaller ones long answers.

    Raises:
        ConfigError: on entry, if the folder is no language model; when built, if a setting is out of range.
        VerifierError: from `score`, as `Reading.score`.
    """

    scale: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale < math.inf:
            raise ConfigError("scale", self.scale, "give a number of at least 0")

    def _shaping(self) -> tuple[object, ...]:
        return (*super()._shaping(), self.scale)

    def _weights(self, path: Path) -> load.Model:
        return load.language_model(path, self.dtype, self.device)

    async def _values(self, layout: Layout, known: int) -> tuple[tuple[float, ...], Outputs | None]:
        begin = layout.bounds[known]
        if begin == len(layout.ids):
            return (0.0,) * (len(layout.marks) - known), None
        outputs = await self.engine.read(layout.ids, begin - 1, likelihood=True, owner=layout.owner)
        regrets = (outputs.values[:, 0] - outputs.values[:, 1]).tolist()
        bounds = [bound - begin for bound in layout.bounds[known:]]
        sums = (math.fsum(regrets[a:b]) for a, b in pairwise(bounds))
        return tuple(sums), outputs

    def _verdict(self, prefix: Prefix, values: tuple[float, ...], cost: Cost) -> Verdict:
        return Verdict(
            math.exp(self.scale * math.fsum(values)), tuple(math.exp(self.scale * value) for value in values), cost
        )
