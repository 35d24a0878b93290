"""What a leaf of Monte Carlo tree search is worth before anything is known of what follows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node


class Evaluate(Protocol):
    """Values in [0, 1] of the leaves of a wave, in order; each is open or complete, and may be there twice.

    Attributes:
        first: whether steps are scored as they are drawn, so that they have a value before their first visit.
    """

    @property
    def first(self) -> bool: ...

    async def __call__(self, s: Session, leaves: Sequence[Node]) -> list[float]: ...


@dataclass(frozen=True)
class Score:
    """The verifier's score: a value model or a process reward model stands for the roll-out."""

    @property
    def first(self) -> bool:
        return True

    async def __call__(self, s: Session, leaves: Sequence[Node]) -> list[float]:
        return await s.score(leaves)


@dataclass(frozen=True)
class Completions:
    """The mean score of `n` roll-outs: completions drawn by the policy, judged at their end.

    They are added to the tree, below the leaf: each is an answer that the selection may take. One that a token limit
    cuts is worth 0. With `mix` below 1, (1 - mix) times the score of the leaf itself is added to mix times the mean,
    as in AlphaGo (Silver et al. 2016), and every step is scored as it is drawn.

    Attributes:
        n: roll-outs per evaluation, at least 1.
        mix: weight of the roll-outs, in (0, 1].
    """

    n: int = 1
    mix: float = 1.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError("n", self.n, "give a number of at least 1")
        _check_mix(self.mix)

    @property
    def first(self) -> bool:
        return self.mix < 1

    async def __call__(self, s: Session, leaves: Sequence[Node]) -> list[float]:
        rolled = [i for i, leaf in enumerate(leaves) if not leaf.terminal]
        ends = await gather(s.complete(leaves[i]) for i in rolled for _ in range(self.n))
        judged = [end for end in ends if end.complete]
        await s.score([*judged, *(leaf for leaf in leaves if leaf.terminal or self.first)])
        values = [leaf.score for leaf in leaves]
        for at, i in enumerate(rolled):
            own = ends[at * self.n : (at + 1) * self.n]
            mean = math.fsum(end.score for end in own if end.complete) / self.n
            values[i] = mean if self.mix == 1 else (1 - self.mix) * values[i] + self.mix * mean
        return values


@dataclass(frozen=True)
class RollForward:
    """(1 - mix) * V + mix * the largest V seen in a short greedy walk from the leaf (ReST-MCTS*, arXiv:2406.03816).

    The walk goes to the best of `branch` drawn steps each time; its nodes stay in the tree. Where nothing can follow,
    the value is V.

    Attributes:
        steps: of the walk, at least 1; 3 in the published class, 2 in its evaluation script.
        branch: steps drawn to choose from, at least 1.
        mix: weight of the walk (alpha), in (0, 1].
    """

    steps: int = 2
    branch: int = 1
    mix: float = 0.5

    def __post_init__(self) -> None:
        for name in ("steps", "branch"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "give a number of at least 1")
        _check_mix(self.mix)

    @property
    def first(self) -> bool:
        return True

    async def __call__(self, s: Session, leaves: Sequence[Node]) -> list[float]:
        scores = await s.score(leaves)
        walkers = {leaf: leaf for leaf in leaves if not leaf.terminal}
        seen: dict[Node, float] = {}
        for _ in range(self.steps):
            steps = await gather(s.expand(walker, self.branch) for walker in walkers.values())
            ways = [[step for step in drawn if step.complete or not step.terminal] for drawn in steps]
            await s.score([step for way in ways for step in way])
            heads = {
                leaf: max(way, key=lambda step: step.score) for leaf, way in zip(walkers, ways, strict=True) if way
            }
            for leaf, head in heads.items():
                seen[leaf] = max(seen.get(leaf, 0.0), head.score)
            walkers = {leaf: head for leaf, head in heads.items() if not head.terminal}
            if not walkers:
                break
        mixed = [(1 - self.mix) * v + self.mix * seen.get(leaf, v) for leaf, v in zip(leaves, scores, strict=True)]
        return mixed


def _check_mix(mix: float) -> None:
    if not 0 < mix <= 1:
        raise ConfigError("mix", mix, "give a number in (0, 1]")
