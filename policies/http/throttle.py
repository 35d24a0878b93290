"""How many requests may be in flight: one more per round while all goes well, half as many when the server is full."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Throttle:
    """Additive increase, multiplicative decrease (Chiu and Jain 1989); first come, first served.

    Attributes:
        most: requests in flight at most, at least 1.
        limit: how many may be in flight now, in [1, most]; a whole number of them, rounded down.
        flying: how many are.
        cuts: how often the limit was halved.
    """

    def __init__(self, start: int, most: int):
        self.most, self.limit = most, float(min(start, most))
        self.flying = self.cuts = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Waits for a place; gives the number of cuts so far, to be told to `shrink`."""
        await self._enter()
        try:
            yield self.cuts
        finally:
            self.flying -= 1
            self._wake()

    def grow(self) -> None:
        """A request was answered: after as many as are in flight, one more may be."""
        self.limit = min(self.most, self.limit + 1 / self.limit)
        self._wake()

    def shrink(self, cuts: int) -> None:
        """The server was too busy for a request that began after `cuts` cuts.

        Requests of one round trip that fail together halve the limit once.
        """
        if cuts == self.cuts:
            self.limit = max(1.0, self.limit / 2)
            self.cuts += 1

    async def _enter(self) -> None:
        if not self._waiting and self.flying < int(self.limit):
            self.flying += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was given a place at the same moment
                self.flying -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self.flying < int(self.limit):
            place = self._waiting.popleft()
            if not place.done():  # its caller may have been cancelled
                self.flying += 1
                place.set_result(None)
