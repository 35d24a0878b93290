"""Small worlds to try a search in: problems with instant models, and models that are late or keep accounts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search import events
from search.budget import JUDGING, SAMPLING, Budget
from search.errors import BudgetExhausted
from search.ports import Grader, Policy, Verifier
from search.run import Outcome, Search, run
from search.select import Best, SameText, Selector
from search.session import Session, gather
from search.types import Cost, Prefix, Reply, Request, Sampling, Segment, Verdict


@dataclass(frozen=True)
class World:
    """Problems, models to search them with, and what may be spent on each, strictly.

    Sessions have a clock that stands still, so that events compare.
    """

    policy: Policy
    verifier: Verifier
    prompts: Sequence[Segment]
    step: Sampling
    roles: Mapping[str, Policy] = field(default_factory=dict)
    whole: Sampling = Sampling()
    select: Selector = Best()
    grader: Grader = SameText()
    seed: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)

    async def run(self, search: Search, prompt: Segment, budget: Budget | None = None) -> Trial:
        """One search over one problem."""
        seen: list[events.Event] = []
        session = Session(
            prompt,
            self.policy,
            self.verifier,
            budget or Budget(self.limits, strict=True, clock=still),
            step=self.step,
            whole=self.whole,
            roles=self.roles,
            seed=self.seed,
            sinks=[seen.append],
            clock=still,
        )
        return Trial(await run(search, session, self.select, self.grader), seen)

    async def run_all(self, search: Search) -> list[Trial]:
        """All problems at once."""
        return await gather(self.run(search, prompt) for prompt in self.prompts)

    def through(self, sample: Call, verifier: Verifier) -> World:
        """The same world, its policies asked through `sample`."""
        roles = {role: Through(policy, sample) for role, policy in self.roles.items()}
        return replace(self, policy=Through(self.policy, sample), verifier=verifier, roles=roles)


Call = Callable[[Policy, Sequence[Request]], Awaitable[Sequence[Reply]]]


@dataclass(frozen=True)
class Through:
    """A policy asked through somebody else: `sample(inner, requests)`."""

    inner: Policy
    call: Call

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        return await self.call(self.inner, requests)


@dataclass(frozen=True)
class Trial:
    """What a run gave and emitted."""

    outcome: Outcome
    seen: list[events.Event]

    def record(self) -> dict[str, Any]:
        """Everything there is to compare, in plain values."""
        answer = self.outcome.answer
        return {
            "tree": self.outcome.tree.to_json(),
            "events": [events.to_json(event) for event in self.seen],
            "spent": self.outcome.spent,
            "stopped": self.outcome.stopped,
            "answer": answer.id if answer else None,
            "candidates": self.outcome.candidates,
        }


class Ledger:
    """The models of a world, with an independent account of calls and costs.

    Fails a call that is started although `budget` is used up. Each request takes 0.25 s of model time.
    """

    def __init__(self, world: World):
        self.world, self.calls, self.paid = world, 0, Cost()
        self.budget = Budget()

    def now(self) -> float:
        """A clock: one second per call."""
        return float(self.calls)

    @property
    def kept(self) -> World:
        """The world, with everything in it on the account."""
        return self.world.through(self._sample, self)

    async def _sample(self, policy: Policy, requests: Sequence[Request]) -> list[Reply]:
        self._called(SAMPLING)
        slow = Cost(seconds=0.25)
        replies = [replace(r, cost=r.cost + slow) for r in await policy.sample(requests)]
        self.paid = sum((reply.cost for reply in replies), self.paid)
        return replies

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        self._called(JUDGING)
        verdicts = list(await self.world.verifier.score(prefixes))
        self.paid = sum((verdict.cost for verdict in verdicts), self.paid)
        return verdicts

    def _called(self, kinds: Collection[str]) -> None:
        try:
            self.budget.check(kinds)
        except BudgetExhausted as limit:
            raise AssertionError(f"a call was started across a limit: {limit}") from None
        self.calls += 1


class Late:
    """The models of a world, each call answered after up to seven rounds of the event loop."""

    def __init__(self, world: World, rng: random.Random):
        self.world, self.rng = world, rng

    @property
    def fingerprint(self) -> str:
        return "late"

    @property
    def delayed(self) -> World:
        """The world, with everything in it late."""
        return self.world.through(self._sample, self)

    async def _sample(self, policy: Policy, requests: Sequence[Request]) -> Sequence[Reply]:
        await self._wait()
        return await policy.sample(requests)

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        await self._wait()
        return await self.world.verifier.score(prefixes)

    async def _wait(self) -> None:
        for _ in range(self.rng.randrange(8)):
            await asyncio.sleep(0)


def still() -> float:
    """A clock that never moves."""
    return 0.0
