"""Guided decoding: stochastic beam search by likelihood and self-evaluation (Xie et al. 2023, arXiv:2305.00633)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import ClassVar

from search.draws import each_draw
from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node
from search.weights import draw_distinct, softmax


@dataclass(frozen=True)
class Guided:
    """Draws the next beams by softmax(E / tau), without replacement, from all their next steps.

    E = p ** lambda * c ** (1 - lambda): p is the likelihood of the path, c the probability that it is correct, here the
    verifier's score of it, whatever the verifier is (a judge's probability of "correct", a PRM). With lambda = 0.5 it
    is their geometric mean, as in the comparison of Xu et al. 2025 (arXiv:2503.13288, the source of the defaults). That
    comparison also normalises p by length, which we follow: p = exp(mean log-probability of the tokens of the path);
    the original multiplies E over the steps, and lowers tau by `anneal` from step to step.

    A step drawn twice is one candidate. A path that has ended keeps its place, and nothing more is drawn from it; the
    places left are shared by the others. Beams still open after `depth` steps are completed; every complete path is a
    candidate of the selection.

    Attributes:
        beams: M, paths kept.
        width: N, steps drawn per place.
        depth: steps, at least 1.
        likelihood: lambda, in [0, 1]: 1 goes by the policy alone, 0 by the verifier.
        temperature: tau of the first step, above 0.
        anneal: factor of tau per step, in (0, 1].
    """

    beams: int = 4
    width: int = 4
    depth: int = 4
    likelihood: float = 0.5
    temperature: float = 1.0
    anneal: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ("verifier", "logprobs")

    def __post_init__(self) -> None:
        for name in ("beams", "width", "depth"):
            if (count := getattr(self, name)) < 1:
                raise ConfigError(name, count, "give a number of at least 1")
        if not 0 <= self.likelihood <= 1:
            raise ConfigError("likelihood", self.likelihood, "give a number from 0 to 1")
        if not self.temperature > 0:
            raise ConfigError("temperature", self.temperature, "give a number above 0")
        if not 0 < self.anneal <= 1:
            raise ConfigError("anneal", self.anneal, "give a number in (0, 1]")

    async def __call__(self, s: Session) -> Node | None:
        beam, tau = [s.root], self.temperature
        for _ in range(self.depth):
            ended = [node for node in beam if node.terminal]
            open_ = [node for node in beam if not node.terminal]
            places = list(islice(cycle(open_), self.beams - len(ended)))
            drawn = chain.from_iterable(await each_draw(s, places, self.width))
            steps = [node for node in dict.fromkeys(drawn) if node.complete or not node.terminal]
            if not steps:
                break
            await s.score(steps)
            worth = [self.worth(node) for node in steps]
            odds = softmax(worth, tau)
            chosen = [steps[i] for i in draw_distinct(s.rng, odds, len(places))]
            for node, value, weight in zip(steps, worth, odds, strict=True):
                s.note(node, worth=value, weight=weight)
                if node not in chosen:
                    s.prune(node)
            beam, tau = ended + chosen, tau * self.anneal
        await gather(s.complete(node) for node in beam if not node.terminal)
        return None

    def worth(self, node: Node) -> float:
        """E of a scored node, in [0, 1]."""
        logprobs = [x for step in node.prefix.steps for x in step.logprobs]
        p = math.exp(min(math.fsum(logprobs) / max(len(logprobs), 1), 0.0))
        return float(p**self.likelihood * node.score ** (1 - self.likelihood))
