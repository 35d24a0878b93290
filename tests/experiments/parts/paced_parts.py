"""A policy that takes as long as a replica of a `Station` would: real processes, real waiting, no arithmetic."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from heapq import heappop, heappush

from experiments.plan.station import Station
from policies.toy import Toy


class Pace:
    """Rows that advance together, a token every `step(rows)` seconds."""

    def __init__(self, station):
        self.station, self.loop = station, asyncio.get_running_loop()
        self.rows, self.tokens, self.at, self.count, self.timer = [], 0.0, self.loop.time(), 0, None

    async def draw(self, length):
        """Waits as long as `length` tokens take."""
        self.advance()
        self.count += 1
        done = self.loop.create_future()
        heappush(self.rows, (self.tokens + length, self.count, done))
        self.plan()
        await done

    def advance(self):
        now = self.loop.time()
        if self.rows:
            self.tokens += (now - self.at) / self.station.step(len(self.rows))
        self.at = now

    def plan(self):
        if self.timer:
            self.timer.cancel()
        if self.rows:
            seconds = (self.rows[0][0] - self.tokens) * self.station.step(len(self.rows))
            self.timer = self.loop.call_later(max(seconds, 0.0), self.end)

    def end(self):
        self.advance()
        while self.rows and self.rows[0][0] <= self.tokens + 1e-6:
            _, _, done = heappop(self.rows)
            if not done.done():
                done.set_result(None)
        self.plan()


@dataclass(frozen=True)
class Paced(Toy):
    """The toy, with the speed of a station: `rate` tokens per second for a row, `full` for `rows` of them."""

    rate: float = 5.0
    full: float = 60.0
    rows: int = 32
    _pace: list = field(default_factory=list, init=False, repr=False, compare=False)

    async def sample(self, requests):
        if not self._pace:
            self._pace.append(Pace(Station(rate=self.rate, full=self.full, rows=self.rows)))
        replies = await super().sample(requests)
        lengths = [len(segment.tokens) for reply in replies for segment in reply.segments]
        await asyncio.gather(*map(self._pace[0].draw, lengths))
        return replies
