"""Several verifiers that judge together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from search.errors import ConfigError
from search.ports import Verifier
from search.types import Cost, Prefix, Verdict
from verifiers.combine import Composed, asked


@dataclass(frozen=True)
class Ensemble(Composed):
    """The mean of several verifiers, less so much for their disagreement.

    The verifier ensembling of FETCH (Wang et al. 2025, arXiv:2502.11183), where the mean of two lowers the
    variance of what the search follows. `caution` is ours: value = mean - caution * disagreement, at least 0. Step
    values are treated alike where all verifiers give as many. Costs add up: a prefix is one pass for each verifier.

    Attributes:
        verifiers: at least one.
        caution: weight of the disagreement, at least 0.
    """

    verifiers: tuple[Verifier, ...]
    caution: float = 0.0

    _holds: ClassVar[tuple[str, ...]] = ("verifiers",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", tuple(self.verifiers))
        if not self.verifiers:
            raise ConfigError("verifiers", self.verifiers, "give at least one verifier")
        if not 0 <= self.caution < math.inf:
            raise ConfigError("caution", self.caution, "give a number of at least 0")

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        verdicts = [await asked(verifier, prefixes) for verifier in self.verifiers]
        return [self._verdict(about) for about in zip(*verdicts, strict=True)]

    def _verdict(self, verdicts: Sequence[Verdict]) -> Verdict:
        value = self._joined([verdict.value for verdict in verdicts])
        alike = len({len(verdict.steps) for verdict in verdicts}) == 1
        steps = tuple(map(self._joined, zip(*(v.steps for v in verdicts), strict=True))) if alike else ()
        return Verdict(value, steps, sum((verdict.cost for verdict in verdicts), Cost()))

    def _joined(self, values: Sequence[float]) -> float:
        mean = math.fsum(values) / len(values)
        return min(max(mean - self.caution * disagreement(values), 0.0), 1.0)


def disagreement(values: Sequence[float]) -> float:
    """The standard deviation of what several verifiers say of one prefix; 0 to 0.5."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
