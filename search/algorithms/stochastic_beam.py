"""Stochastic beam search: samples of sequences without replacement (Kool, van Hoof and Welling 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from search.errors import ConfigError
from search.gumbel import gumbel, with_maximum
from search.hypotheses import best, chosen, forsake, needs, take, taken
from search.ports import Enumerates, ability
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class StochasticBeam:
    """A beam search on perturbed log-probabilities: its `beams` sequences are samples without replacement, in order.

    Kool et al. 2019, "Stochastic Beams and Where to Find Them" (arXiv:1903.06059), algorithm 1. A hypothesis has its
    log-probability phi and a Gumbel draw G around it; the children's draws are moved so that the largest is their
    parent's. The k largest G of a level are then those of the full sequences below them, and the k largest of all
    sequences are k draws without replacement, the first in order first. The root's G is drawn (the paper takes 0 and
    says that it makes no difference to the sample), so that the largest G left out is a threshold for importance
    weights.

    Exact with the whole distribution of the next token, `top` null, which makes a node of every token at every step.
    With `top` = n the sample is exact for the model cut to the n likeliest tokens and normalised again. Hypotheses of
    `length` tokens that have not ended are no answers, but each was a sample and holds its place.

    Attributes:
        beams: sequences sampled, at least 1 (k).
        top: tokens listed after each hypothesis, at least 1; null for the whole vocabulary.
        length: tokens of a hypothesis at most, the end of sequence included.
        choose: what the answer is: the first "sample" (an exact draw of the model), the likeliest of the samples
            ("model"), or the one the "verifier" likes best (best-of-N without repetitions).
    """

    beams: int = 8
    top: int | None = None
    length: int = 256
    choose: Literal["sample", "model", "verifier"] = "model"

    def __post_init__(self) -> None:
        for name in ("beams", "top", "length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.choose not in ("sample", "model", "verifier"):
            raise ConfigError("choose", self.choose, 'give "sample", "model" or "verifier"')

    @property
    def needs(self) -> tuple[str, ...]:
        return needs("verifier" if self.choose == "verifier" else "model")

    async def __call__(self, s: Session) -> Node | None:
        top = self.top or ability(s.policy, Enumerates).vocabulary_size()
        s.note(s.root, phi=0.0, gumbel=gumbel(s.rng))
        beam = [s.root]
        for _ in range(self.length):
            open_ = [node for node in beam if not node.complete]
            if not open_:
                break
            listed = await gather(s.branch(node, top) for node in open_)
            noisy = {node: self.noted(node) for node in beam if node.complete}
            for node, children in zip(open_, listed, strict=True):
                noisy |= self.perturbed(s, node, children)
            beam = sorted(noisy, key=lambda node: noisy[node][1], reverse=True)[: self.beams]
            take(s, beam)
            for node in beam:
                phi, g = noisy[node]
                s.note(node, phi=phi, gumbel=g)
            forsake(s, open_, beam)
        finished = [node for node in beam if node.complete]
        if self.choose == "sample":
            return finished[0] if finished else None
        return await chosen(s, finished, self.choose)

    def perturbed(self, s: Session, parent: Node, children: list[Node]) -> dict[Node, tuple[float, float]]:
        """phi and G of each child."""
        phi, g = self.noted(parent)
        logprobs = [child.segment.logprobs[0] for child in children]
        mass = math.log(math.fsum(map(math.exp, logprobs)))  # 0, but for rounding, of the whole vocabulary
        phis = [phi + x - mass for x in logprobs]
        noisy = with_maximum([gumbel(s.rng, x) for x in phis], g)
        return dict(zip(children, zip(phis, noisy, strict=True), strict=True))

    def noted(self, node: Node) -> tuple[float, float]:
        return node.notes["phi"], node.notes["gumbel"]

    def nominate(self, s: Session) -> Node | None:
        """When the budget ends: the finished sample that comes first, or the best of them."""
        if self.choose == "sample":
            return max(taken(s), key=lambda node: node.notes["gumbel"], default=None)
        return best(taken(s), self.choose)
