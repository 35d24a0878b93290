"""What problems ask of each station on average: the numbers that the formulas need, read off scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.plan.cache import Cache
from experiments.plan.script import Script
from experiments.plan.station import Station


@dataclass(frozen=True)
class Demand:
    """Of one problem at one station; a wave is what a problem asks at once.

    Attributes:
        waves: per problem.
        requests: in a wave, on average; so are the rest.
        rows: draws.
        longest: tokens of the longest draw.
        stays: tokens of the longest draw of one request: as long, it has its rows.
        tokens: drawn.
        reads: tokens of prompts that one replica computes which keeps all it has seen.
        whole: tokens of prompts.
        variation: of the prompts' tokens that are computed for a wave: variance over squared mean.
    """

    waves: float
    requests: float
    rows: float
    longest: float
    stays: float
    tokens: float
    reads: float
    whole: float
    variation: float = 0.0

    def steps(self, station: Station, waves: float) -> float:
        """From a wave's coming to the end of its longest draw: beside others it meets a step half done on average."""
        return self.longest + 0.5 * station.stepwise * min(max(waves - 1, 0), 1)

    def room(self, station: Station) -> float:
        """Waves whose draws a replica has at work at once at most; 1 where nothing is drawn: prompts take turns."""
        if not self.tokens:
            return 1.0
        requests = (station.rows or float("inf")) * self.requests / self.rows
        return requests * self.longest / (self.requests * self.stays)

    def seconds(self, station: Station, waves: float, hits: float | None = None) -> float:
        """Between two waves that a replica completes while it has `waves` of them.

        Prompts are computed one after the other; draws go on together, as far as there is room.

        Args:
            hits: share of prompt tokens found in a cache; None takes what a cache without limit finds.
        """
        read = self.reads if hits is None else max(self.whole * (1 - hits), self.requests)
        reading = station.reading(read, self.requests, self.rows)
        if not self.tokens:
            return reading
        at_once, steps = min(waves, self.room(station)), self.steps(station, waves)
        together = self.tokens / steps  # draws of a wave at work at once, averaged over its time
        return reading + steps * station.step(at_once * together) / at_once

    @property
    def hits(self) -> float:
        """Share of prompt tokens that a cache without limit finds."""
        return 1 - self.reads / self.whole if self.whole else 0.0


def demands(scripts: Sequence[Script]) -> dict[str, Demand]:
    """By station, the average over `scripts`."""
    sums: dict[str, list[float]] = {}
    for script in scripts:
        caches: dict[str, Cache] = {}
        for phase in script.phases:
            cache = caches.setdefault(phase.station, Cache(None, 1.0))
            total = sums.setdefault(phase.station, [0.0] * 9)
            lengths = [length for ask in phase.asks for length in ask.lengths]
            stays = sum(max(ask.lengths, default=0.0) for ask in phase.asks) / len(phase.asks)
            reads = sum(cache.read(script, ask.node, ask.drawn) for ask in phase.asks)
            whole = sum(script.lengths[ask.node] for ask in phase.asks)
            longest = max(lengths, default=0.0)
            new = (1, len(phase.asks), len(lengths), longest, stays, sum(lengths), reads, whole, reads**2)
            sums[phase.station] = [a + b for a, b in zip(total, new, strict=True)]
    return {name: _mean(total, len(scripts)) for name, total in sums.items()}


def _mean(total: Sequence[float], problems: int) -> Demand:
    waves, *others, squares = total
    requests, rows, longest, stays, drawn, reads, whole = (each / waves for each in others)
    variation = max(squares / waves / reads**2 - 1, 0.0)
    return Demand(waves / problems, requests, rows, longest, stays, drawn, reads, whole, variation)
