"""What a node costs: seeds, tree, budget and events of a session whose models answer at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.benchmarks.figure import Figure, measured
from search.session import Session
from search.steps import Tokens
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Segment, Verdict

WIDTH = 4
FEW, MANY, REPEATS = 1_000, 100_000, 3


@dataclass(frozen=True)
class Instant:
    """A policy and verifier that answer without work; every draw is another step."""

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        """One token per seed."""
        return [
            Reply(tuple(Segment((seed,), "x", (-1.0,), Finish.STEP) for seed in request.seeds), Cost(policy_calls=1))
            for request in requests
        ]

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """The same for all."""
        return [Verdict(0.5) for _ in prefixes]


async def grow(nodes: int) -> int:
    """Grows a tree of at least `nodes` nodes breadth first: expand, score, note; how many there are."""
    model = Instant()
    session = Session(
        Segment((0,), "?"), model, model, step=Sampling(until=Tokens(1), max_tokens=1), whole=Sampling(max_tokens=1)
    )
    queue = deque([session.root])
    while len(session.tree) < nodes:
        children = await session.expand(queue.popleft(), WIDTH)
        await session.score(children)
        for child in children:
            session.note(child, f=0.5)
        queue.extend(children)
    return len(session.tree)


def seconds_per_node(nodes: int) -> float:
    """Of growing a tree of `nodes` nodes."""
    began = time.perf_counter()
    grown = asyncio.run(grow(nodes))
    return (time.perf_counter() - began) / grown


def figures() -> Iterator[Figure]:
    """`tree.us_per_node` and `tree.growth`."""
    seconds_per_node(FEW)  # warm
    few, many = [], []
    for _ in range(REPEATS):  # in turn, so that a busy machine disturbs both alike
        few.append(min(seconds_per_node(FEW) for _ in range(5)))
        many.append(seconds_per_node(MANY))
    note = f"session with instant models, width {WIDTH}: expand, score, note"
    yield measured("tree.us_per_node", "us", f"{note}; {MANY:,} nodes", [1e6 * each for each in many])
    ratios = [m / f for m, f in zip(many, few, strict=True)]
    yield measured("tree.growth", "ratio", f"cost per node at {MANY:,} nodes over that at {FEW:,}", ratios)
