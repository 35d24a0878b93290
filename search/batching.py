"""Merges concurrent calls into batches, without timers.

A batch leaves when it is full, or when the event loop has gone round `settle` times without a new call: when every
search is waiting, nobody can add to it. One batch is in flight at a time; what arrives meanwhile forms the next.
Engines that batch continuously need none of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from search.ports import Policy, Verifier
from search.types import Prefix, Reply, Request, Verdict

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """`call`, with concurrent calls merged.

    Attributes:
        size: items per batch at most; None for no limit.
        settle: rounds of the event loop without a new call before a batch leaves.
        sizes: of the batches sent so far.
    """

    def __init__(self, call: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], size: int | None = None, settle: int = 3):
        self.call, self.size, self.settle = call, size, settle
        self.sizes: list[int] = []
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[Q]) -> list[A]:
        """Answers in the order of `items`; raises what the call of their batch raised."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[A]] = [loop.create_future() for _ in items]
        self._waiting += zip(items, futures, strict=True)
        if items and self._worker is None:
            self._worker = loop.create_task(self._work())
        return list(await asyncio.gather(*futures))

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._settled()
                batch, self._waiting = self._waiting[: self.size], self._waiting[self.size or len(self._waiting) :]
                self.sizes.append(len(batch))
                await self._answer(batch)
        finally:
            self._worker = None

    async def _answer(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        futures = [future for _, future in batch]
        try:
            answers = await self.call([item for item, _ in batch])
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():  # a caller may have been cancelled
                    future.set_result(answer)
        except Exception as error:  # whatever it is, it belongs to those who wait for this batch
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    async def _settled(self) -> None:
        quiet, seen = 0, len(self._waiting)
        while quiet < self.settle and (self.size is None or seen < self.size):
            await asyncio.sleep(0)
            quiet, seen = (quiet + 1 if len(self._waiting) == seen else 0), len(self._waiting)


class Batched:
    """A policy whose concurrent calls run as batches of at most `size` requests."""

    def __init__(self, policy: Policy, size: int | None = None, settle: int = 3):
        self.inner = policy
        self.batcher: Batcher[Request, Reply] = Batcher(policy.sample, size, settle)

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return await self.batcher(requests)


class BatchedVerifier:
    """A verifier whose concurrent calls run as batches of at most `size` prefixes."""

    def __init__(self, verifier: Verifier, size: int | None = None, settle: int = 3):
        self.inner = verifier
        self.batcher: Batcher[Prefix, Verdict] = Batcher(verifier.score, size, settle)

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return await self.batcher(prefixes)
