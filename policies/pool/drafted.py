"""Draft replicas beside target replicas: a smaller policy, served on its own, guesses for the one that answers.

A request goes to a draft replica first, with the same seeds, and its whole answer to a target replica together with the
request. The target computes many guessed tokens in one forward and keeps those that are its own draws
(`policies.engine.speculate`), so no result depends on the draft, nor on whether there is one. What the draft costs is a
round trip and its own time; where the two together are not faster than the target alone, as is so where both models are
small, requests go to the target alone (`Choice`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from policies.pool import port
from policies.pool.fronts import PooledPolicy
from policies.pool.home import Build
from policies.pool.hosting import Hosting
from policies.pool.port import Port
from search.contract import checked_reply
from search.errors import ConfigError, PolicyError
from search.types import Cost, Reply, Request

FASTER = 1.05  # the way with drafts must bring this many times the tokens per second of the one without
ENOUGH = 8  # requests after which a way is known
AGAIN = 256  # requests after which the other way is tried again


@runtime_checkable
class Takes(Protocol):
    """A policy that takes guesses of what its draws will be."""

    async def sample_told(
        self, requests: Sequence[Request], told: Sequence[tuple[tuple[int, ...], ...]]
    ) -> Sequence[Reply]:
        """As `sample`; `told` has tokens for each draw of each request, hints only."""
        ...


class Choice:
    """With drafts or without: what was faster, tried again now and then.

    Attributes:
        forced: True or False for always so; None to choose.
    """

    def __init__(self) -> None:
        self.forced: bool | None = None
        self._seconds, self._tokens, self._tries = [0.0, 0.0], [0.0, 0.0], [0, 0]
        self._since = 0

    def __call__(self) -> bool:
        """Whether the next request is drafted (mutates)."""
        if self.forced is not None:
            return self.forced
        for way in (False, True):
            if self._tries[way] < ENOUGH:
                return way
        plain, drafted = (tokens / max(took, 1e-9) for tokens, took in zip(self._tokens, self._seconds, strict=True))
        better = drafted > FASTER * plain
        self._since += 1
        if self._since >= AGAIN:
            self._since, self._tries[not better] = 0, 0
        return better

    def observe(self, drafted: bool, tokens: int, seconds: float) -> None:
        """A request took so long (mutates)."""
        self._tries[drafted] += 1
        self._tokens[drafted] = 0.95 * self._tokens[drafted] + tokens
        self._seconds[drafted] = 0.95 * self._seconds[drafted] + seconds


class DraftedPolicy(PooledPolicy):
    """A policy whose requests are answered by replicas that other replicas guess for.

    Attributes:
        drafts: the pool of the policy that guesses.
        choice: when it is asked.
    """

    def __init__(self, hosting: Hosting, build: Build, drafts: PooledPolicy):
        super().__init__(hosting, build)
        if not isinstance(self.part, Takes):
            remedy = f"{type(self.part).__name__} takes no guesses: give an embedded policy, or null"
            raise ConfigError("pool.drafter", drafts.part, remedy)
        self.drafts, self.choice = drafts, Choice()
        steps = hosting.affinity
        self._told = Port("sample_told", _key(steps), _check, PolicyError, _weight, columns=True)

    async def __aenter__(self) -> Self:
        await self.drafts.__aenter__()
        try:
            return await super().__aenter__()
        except BaseException:
            await self.drafts.__aexit__(None, None, None)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, at)
        finally:
            await self.drafts.__aexit__(kind, error, at)

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Reply:
        if request.top or not request.seeds:
            return (await super().sample([request]))[0]
        drafted, began = self.choice(), time.monotonic()
        reply = await self._after_draft(request) if drafted else (await super().sample([request]))[0]
        self.choice.observe(drafted, reply.cost.generated, time.monotonic() - began)
        return reply

    async def _after_draft(self, request: Request) -> Reply:
        try:
            (draft,) = await self.drafts.sample([request])
        except Exception:  # whatever it died of: a draft that fails is no draft
            return (await super().sample([request]))[0]
        told = tuple(segment.tokens for segment in draft.segments)
        reply: Reply
        (reply,) = await self.pool(self._told, [(request, told)])
        return replace(reply, cost=reply.cost + Cost(seconds=draft.cost.seconds))


def _key(steps: int) -> Any:
    return lambda pair: port.belongs(pair[0].prefix, steps)


def _check(pair: tuple[Request, Any], reply: Reply) -> object:
    return checked_reply(pair[0], reply)


def _weight(pair: tuple[Request, Any]) -> int:
    return max(len(pair[0].seeds), 1)
