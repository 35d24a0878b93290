"""What it brings to begin requests before searches make them: seconds of a simulated clock, the same on every machine.

Two replicas of a policy that answers one request after the other, and a verifier of another machine; searches over
twelve problems, one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from experiments.benchmarks.clock import simulated
from experiments.benchmarks.figure import Figure, measured
from policies.pool.local import Local
from policies.pool.rules import Counters
from policies.toy import Toy
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.mcts import MCTS
from search.ports import Verifier
from search.run import Search
from search.steps import Tokens
from search.types import Prefix, Reply, Request, Sampling, Verdict
from search.worlds import World
from verifiers.toy import Hidden

WORD, PROBLEMS, SEEDS = "abcabcabc", 12, 5
POLICY = 0.1  # seconds for a request
SEARCHES: dict[str, Search] = {
    "beam_1": Beam(1, 2),
    "beam_2": Beam(2, 2),
    "astar": AStar(width=2),
    "mcts": MCTS(24, 2),
}


@dataclass(frozen=True)
class Serial(Toy):
    """A policy that answers one request after the other, each in `seconds`."""

    seconds: float = POLICY
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        """As the toy, in its turn."""
        async with self._turn:
            await asyncio.sleep(self.seconds * len(requests))
        return await super().sample(requests)


@dataclass(frozen=True)
class Judging:
    """A verifier that takes `seconds` for a batch."""

    inner: Verifier
    seconds: float

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        """As the one inside, later."""
        await asyncio.sleep(self.seconds)
        return await self.inner.score(prefixes)


async def _searched(hosting: Local, search: Search, judging: float, seed: int) -> tuple[float, Counters, list[Any]]:
    clock = asyncio.get_running_loop().time
    prompts = [Toy().write(f"q{i}") for i in range(PROBLEMS)]
    async with hosting.policy(partial(Serial, length=len(WORD))) as pooled:
        ahead = pooled.foresee(seed)
        verifier = Judging(Hidden(WORD), judging)
        world = World(ahead or pooled, verifier, prompts, Sampling(until=Tokens(1)), seed=seed)
        began = clock()
        records = [(await world.run(search, prompt)).record() for prompt in prompts]
        took = clock() - began
        if ahead is not None:
            await ahead.__aexit__(None, None, None)
        return took, pooled.counters, records


def searched(ahead: int, search: Search, judging: float, seed: int = 0) -> tuple[float, Counters, list[Any]]:
    """Seconds, what the pool counted, and what the searches found, with a verifier that takes `judging` seconds."""
    hosting = replace(Local(workers="inline", replicas=2, spill=1), ahead=ahead)
    return simulated(_searched(hosting, search, judging, seed))


def figures() -> Iterator[Figure]:
    """By search: time without over time with; and of what was begun the share that was for nothing."""
    for judging in (POLICY, 0.0):
        name = "ahead" if judging else "ahead.fast_verifier"
        for which, search in SEARCHES.items():
            ratios, shares = [], []
            for seed in range(SEEDS):
                (off, _, wanted), (on, counters, found) = (searched(ahead, search, judging, seed) for ahead in (0, 1))
                assert found == wanted, "no answer may change"
                ratios.append(off / on)
                shares.append(1 - counters.used / counters.begun if counters.begun else 0.0)
            note = f"2 replicas, {POLICY} s a request, verifier {judging} s: simulated time without over with"
            yield measured(f"{name}.{which}", "ratio", note, ratios)
            if judging:
                yield measured(
                    f"{name}.{which}_wasted", "ratio", "requests begun and not asked for, of all begun", shares
                )
