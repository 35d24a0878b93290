"""Ask and tell over any search: models whose answers come from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.ports import Policy
from search.types import Prefix, Reply, Request, Verdict


class Outside:
    """A policy and a verifier in one, for those who must drive a search instead of being called by it.

    outside = Outside()
    task = asyncio.create_task(run(search, Session(prompt, outside, outside, ...)))
    while questions := await outside.ask(task):
        for number, question in questions.items():  # all or some, in any order
            outside.tell(number, ...)               # a Reply to a Request, a Verdict to a Prefix
    outcome = await task
    """

    def __init__(self, inner: Policy | None = None) -> None:
        """`inner` is a policy whose abilities, such as writing text as tokens, are asked in place of this one's."""
        self.inner = inner
        self._asked_of: dict[int, str] = {}
        self._open: dict[int, tuple[Request | Prefix, asyncio.Future[Any]]] = {}
        self._count = 0
        self._asked = asyncio.Event()

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return await self.answers(requests, "policy")

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return await self.answers(prefixes, "verifier")

    def role(self, role: str, inner: Policy | None = None) -> Policy:
        """A policy for another role, answered from outside too."""
        return _Role(self, role, inner)

    def asked(self, number: int) -> str:
        """Who is asked question `number`: "policy", "verifier" or another role."""
        return self._asked_of[number]

    async def ask(self, task: asyncio.Task[Any], settle: int = 8) -> dict[int, Request | Prefix]:
        """The open questions by number; {} once `task`, the search, has ended.

        Waits for the first question, and `settle` rounds of the event loop for others that come with it.
        """
        while not (self._open or task.done()):
            self._asked.clear()
            asked = asyncio.create_task(self._asked.wait())
            await asyncio.wait({asked, task}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
        for _ in range(settle):
            await asyncio.sleep(0)
        return {number: question for number, (question, _) in self._open.items()}

    def tell(self, number: int, answer: Reply | Verdict) -> None:
        """Answers an open question; KeyError for one that is not open."""
        _, future = self._open.pop(number)
        del self._asked_of[number]
        future.set_result(answer)

    async def answers(self, questions: Sequence[Request | Prefix], role: str) -> list[Any]:
        """What is told, in the order of `questions`."""
        futures = []
        for question in questions:
            future = asyncio.get_running_loop().create_future()
            self._open[self._count], self._asked_of[self._count] = (question, future), role
            self._count += 1
            futures.append(future)
        self._asked.set()
        return list(await asyncio.gather(*futures))


@dataclass(frozen=True)
class _Role:
    """A policy of another role."""

    outside: Outside
    name: str
    inner: Policy | None

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return await self.outside.answers(requests, self.name)
