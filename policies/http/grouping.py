"""Draws without seeds share requests: those of one problem, asked for in one turn of the event loop and drawn alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from search.batching import Batcher
from search.types import Reply, Request

MOST = 256  # draws of one request


class Grouping:
    """Requests of searches as groups; `call` answers a group, whose requests differ in their prefixes alone."""

    def __init__(self, call: Callable[[Sequence[Request]], Awaitable[Sequence[Reply]]]):
        self._call = call
        self._batch: Batcher[Request, asyncio.Future[Reply]] = Batcher(self._start)
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request) -> Reply:
        """Its reply, when that of its group is there; raises what the group's call raised."""
        (coming,) = await self._batch([request])
        return await coming

    async def _start(self, requests: Sequence[Request]) -> list[asyncio.Future[Reply]]:
        """Sends every group on its way, and waits for none."""
        loop = asyncio.get_running_loop()
        replies: list[asyncio.Future[Reply]] = [loop.create_future() for _ in requests]
        groups: dict[Hashable, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(_alike(request), []).append(i)
        for places in groups.values():
            for some in _parted(places, [len(request.seeds) for request in requests]):
                task = loop.create_task(self._answer([requests[i] for i in some], [replies[i] for i in some]))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        return replies

    async def _answer(self, requests: Sequence[Request], replies: Sequence[asyncio.Future[Reply]]) -> None:
        task = asyncio.current_task()

        def left(_: Any) -> None:
            if task is not None and all(reply.cancelled() for reply in replies):
                task.cancel()  # nobody waits any more

        for reply in replies:
            reply.add_done_callback(left)
        try:
            for reply, answer in zip(replies, await self._call(requests), strict=True):
                if not reply.done():
                    reply.set_result(answer)
        except Exception as error:  # whatever it is, it belongs to those who wait for this group
            for reply in replies:
                if not reply.done():
                    reply.set_exception(error)


def _alike(request: Request) -> Hashable:
    prompt = request.prefix.prompt
    return prompt.tokens or prompt.text, repr(request.sampling)


def _parted(places: Sequence[int], draws: Sequence[int]) -> list[list[int]]:
    """Runs of places with at most `MOST` draws together, or one place with more."""
    parts: list[list[int]] = [[]]
    for i in places:
        if parts[-1] and sum(draws[j] for j in parts[-1]) + draws[i] > MOST:
            parts.append([])
        parts[-1].append(i)
    return parts
