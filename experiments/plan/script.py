"""What a problem asks: a tree of dependent requests, as numbers describe it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from search.errors import ConfigError


class Ask(NamedTuple):
    """A request: draws after a node, or a verdict on it.

    Attributes:
        node: whose prefix it is.
        lengths: tokens of each draw; () for a verdict, or (1,) where it takes a step of its model.
        draws: whether these tokens continue the prefix, so that a cache has them from then on.
    """

    node: int
    lengths: tuple[float, ...] = ()
    draws: bool = True

    @property
    def drawn(self) -> float:
        """Tokens that continue the prefix."""
        return sum(self.lengths) if self.draws else 0.0


class Phase(NamedTuple):
    """Requests that are made at once; the next phase begins when all are answered."""

    station: str
    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Script:
    """One problem: its tree, and what it asks.

    Attributes:
        key: of its prompt; by it the pool routes.
        parents: of each node, by number; -1 for the root, which is the prompt.
        sizes: tokens of each node.
        phases: one after the other.
    """

    key: bytes
    parents: Sequence[int]
    sizes: Sequence[float]
    phases: Sequence[Phase]
    lengths: Sequence[float] = field(init=False, compare=False)  # tokens of the whole prefix, by node

    def __post_init__(self) -> None:
        whole: list[float] = []
        for parent, size in zip(self.parents, self.sizes, strict=True):
            whole.append(size + (whole[parent] if parent >= 0 else 0))
        object.__setattr__(self, "lengths", whole)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A search in numbers: so many steps, each made of requests side by side.

    Attributes:
        prompt: tokens.
        steps: one after the other.
        requests: side by side in each; the first step has one.
        draws: per request.
        tokens: of a draw, the mean.
        spread: sigma of the logarithm of a draw's tokens (log-normal); 0 for draws all alike.
        passes: share of the draws that the verifier judges.
    """

    prompt: float = 200
    steps: int = 10
    requests: int = 4
    draws: int = 4
    tokens: float = 50
    spread: float = 0.5
    passes: float = 1.0

    def __post_init__(self) -> None:
        for name in ("prompt", "steps", "requests", "draws", "tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "give a positive number")
        if not self.spread >= 0:
            raise ConfigError("spread", self.spread, "give a number of at least 0")
        if not 0 <= self.passes <= 1:
            raise ConfigError("passes", self.passes, "give a share from 0 to 1")

    def scripts(self, count: int, seed: int) -> list[Script]:
        """`count` problems."""
        return [self._script(number, random.Random(f"{seed} {number}")) for number in range(count)]

    def _script(self, number: int, rng: random.Random) -> Script:
        parents, sizes = [-1], [float(self.prompt)]
        phases: list[Phase] = []
        open_ = [0]
        middle = math.log(self.tokens) - self.spread**2 / 2
        for _ in range(self.steps):
            asks, children = [], []
            for node in open_:
                lengths = tuple(rng.lognormvariate(middle, self.spread) for _ in range(self.draws))
                asks.append(Ask(node, lengths))
                for length in lengths:
                    children.append(len(parents))
                    parents.append(node)
                    sizes.append(length)
            phases.append(Phase("policy", tuple(asks)))
            judged = rng.sample(children, round(self.passes * len(children)))
            if judged:
                phases.append(Phase("verifier", tuple(map(Ask, sorted(judged)))))
            open_ = sorted(rng.sample(children, min(self.requests, len(children))))
        return Script(f"problem {number}".encode(), parents, sizes, phases)


def stepped(scripts: Sequence[Script], station: str) -> list[Script]:
    """`scripts` whose verdicts of `station` take a step of its model each, shared with those asked at that time."""
    whole = []
    for script in scripts:
        phases = [
            Phase(name, tuple(Ask(ask.node, (1.0,), False) for ask in asks) if name == station else asks)
            for name, asks in script.phases
        ]
        whole.append(Script(script.key, script.parents, script.sizes, phases))
    return whole


def graded(scripts: Sequence[Script], seconds: Mapping[str, float]) -> list[Script]:
    """`scripts` with what comes before each phase and at the end: the driver's work, and the grader's.

    Args:
        seconds: "driver", of Python per request; "grader", per problem.
    """
    whole = []
    for script in scripts:
        phases: list[Phase] = []
        for phase in script.phases:
            if seconds.get("driver"):
                phases.append(Phase("driver", (Ask(0, (seconds["driver"] * len(phase.asks),)),)))
            phases.append(phase)
        if seconds.get("grader"):
            phases.append(Phase("grader", (Ask(0, (seconds["grader"],)),)))
        whole.append(Script(script.key, script.parents, script.sizes, phases))
    return whole
