"""Scores that are begun before they are asked for: a verifier reads a step as soon as its draws are there, while the
other draws of the same search go on.

Searches of several problems overlap anyway, since a policy's and a verifier's engine have a thread each. Within one
search the scores of a wave would wait for the last draw of the wave. No verdict changes; one that nobody asks for is
work for nothing that no budget sees, so draws of a kind (steps, completions) whose scores are seldom asked for are soon
left alone. (Wang et al. 2024, "SEED: Accelerating Reasoning Tree Construction via Scheduled Speculative Decoding", let
the judging of one branch run beside the drawing of another in the same way.)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from search.errors import VerifierError
from search.ports import Policy, Verifier
from search.types import Prefix, Reply, Request, Verdict

TRIED = 32  # scores begun for a kind of draw before it is judged by how many were asked for
USED = 0.5  # share of these that must have been


@dataclass
class Ahead:
    """A policy and a verifier of one search; `policy` and `verifier` are what the search is given in their place.

    Attributes:
        begun, used: scores begun ahead, and those that were asked for, by kind of draw: whether it has a boundary.
    """

    drawer: Policy
    judge: Verifier
    begun: Counter[bool] = field(default_factory=Counter)
    used: Counter[bool] = field(default_factory=Counter)
    _tasks: dict[bytes, tuple[bool, asyncio.Task[Sequence[Verdict]]]] = field(default_factory=dict)

    @property
    def policy(self) -> Drawing:
        """Begins to read what it draws."""
        return Drawing(self.drawer, self)

    @property
    def verifier(self) -> Judging:
        """Answers with what was begun, and asks for the rest."""
        return Judging(self.judge, self)

    def begin(self, request: Request, reply: Reply) -> None:
        """The draws of `request` are there (mutates)."""
        kind = request.sampling.until is not None
        if request.top or (self.begun[kind] >= TRIED and self.used[kind] < USED * self.begun[kind]):
            return
        for segment in reply.segments:
            prefix = request.prefix + segment
            if prefix.digest not in self._tasks:
                self.begun[kind] += 1
                self._tasks[prefix.digest] = kind, asyncio.ensure_future(self._score(prefix))

    async def _score(self, prefix: Prefix) -> Sequence[Verdict]:
        return await self.judge.score([prefix])

    def take(self, prefix: Prefix) -> asyncio.Task[Sequence[Verdict]] | None:
        """The score of `prefix` if it was begun (mutates)."""
        kind, task = self._tasks.pop(prefix.digest, (False, None))
        if task is not None:
            self.used[kind] += 1
        return task

    async def aclose(self) -> None:
        """Ends what nobody asked for."""
        tasks = [task for _, task in self._tasks.values()]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class Drawing:
    """A policy whose draws are read as soon as they are there."""

    inner: Policy
    ahead: Ahead

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`."""
        replies = await self.inner.sample(requests)
        for request, reply in zip(requests, replies, strict=True):
            self.ahead.begin(request, reply)
        return replies


@dataclass(frozen=True)
class Judging:
    """A verifier some of whose answers were begun before."""

    inner: Verifier
    ahead: Ahead

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        """As `inner`."""
        begun = {i: task for i, prefix in enumerate(prefixes) if (task := self.ahead.take(prefix)) is not None}
        others = [prefix for i, prefix in enumerate(prefixes) if i not in begun]
        asked = self.inner.score(others) if others else _none()
        # the first error is raised once all have ended
        rest, *found = [_verdicts(x) for x in await asyncio.gather(asked, *begun.values(), return_exceptions=True)]
        if len(rest) != len(others):
            raise VerifierError(f"{len(rest)} verdicts for {len(others)} prefixes")
        fresh, known = iter(rest), dict(zip(begun, found, strict=True))
        return [known[i][0] if i in known else next(fresh) for i in range(len(prefixes))]


def _verdicts(result: Sequence[Verdict] | BaseException) -> Sequence[Verdict]:
    if isinstance(result, BaseException):
        raise result
    return result


async def _none() -> Sequence[Verdict]:
    return ()
