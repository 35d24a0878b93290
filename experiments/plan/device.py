"""A simulated replica: prompts are computed one by one, draws go on together, a step costs what its rows make it cost.

All rows of a replica advance by the same number of tokens, so one number, the tokens that a row which was always there
would have, tells when each is done (processor sharing in virtual time): an event per row and not per token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from experiments.plan.cache import Cache
from experiments.plan.clock import Clock
from experiments.plan.host import Shared
from experiments.plan.script import Ask, Script
from experiments.plan.station import Station

NEAR = 1e-9  # tokens: rows that end together


@dataclass(eq=False, slots=True)
class Call:
    """Requests that a replica has, from one caller.

    Attributes:
        left: rows that are not done.
        drawn: tokens of those that are.
    """

    asks: list[tuple[Script, Ask]]
    answer: Callable[[Call], None]
    left: int = 0
    drawn: float = 0.0
    read: float = 0.0


@dataclass(slots=True)
class Tally:
    """What the replicas of a station did.

    Attributes:
        busy: seconds that one of them was at work, added up; where it shares processors, what it got of them.
        row_seconds: of these, of draws at work, added up.
        read, found: prompt tokens computed, and found in a cache.
        drawn: tokens drawn.
        lost: of both kinds, for nothing: their replica was lost.
    """

    busy: float = 0.0
    row_seconds: float = 0.0
    read: float = 0.0
    found: float = 0.0
    drawn: float = 0.0
    lost: float = 0.0


class Device:
    """One replica.

    Args:
        clock: or the machine whose processors it shares with others, whose time then is its own.
    """

    def __init__(self, clock: Clock | Shared, station: Station, cache: Cache, tally: Tally):
        self._clock, self._station, self._cache, self._tally = clock, station, cache, tally
        self._rows: list[tuple[float, int, float, Call]] = []  # by the tokens at which they end; their length
        self._calls: dict[Call, float] = {}  # at work; when their prompts are computed
        self._next: list[Call] = []  # whose rows begin with the next step
        self._tokens = self._target = 0.0  # of a row that was always there; at the next event
        self._step = station.step(1)
        self._at = self._reads_until = 0.0  # up to when all is counted; while prompts are computed no row advances
        self._version = self._count = 0
        self._working = self.dead = False

    def work(self, call: Call) -> None:
        """Takes a call; it is answered when the last of its rows is done."""
        self._advance()
        now, seconds = self._clock.now, 0.0
        for script, ask in call.asks:
            read = self._cache.read(script, ask.node, ask.drawn)
            seconds += self._station.reading(read, 1, len(ask.lengths))
            call.read += read
            call.left += len(ask.lengths)
            self._tally.found += script.lengths[ask.node] - read
        self._tally.read += call.read
        self._reads_until = max(self._reads_until, now) + seconds
        self._calls[call] = self._reads_until
        self._mark()
        if seconds:
            self._clock.at(self._reads_until, self._begin, call)
            self._plan()
        else:
            self._begin(call)

    def lose(self) -> None:
        """Ends at once, with all that is at work."""
        self._advance()
        self.dead = True
        for call, until in self._calls.items():
            self._tally.lost += call.read if until <= self._clock.now else 0.0
            self._tally.lost += call.drawn
        for end, _, length, _ in self._rows:
            self._tally.lost += length - (end - self._tokens)
        self._calls.clear()
        self._rows.clear()
        self._next.clear()
        self._mark()

    @property
    def calls(self) -> list[Call]:
        """At work."""
        return list(self._calls)

    def settle(self) -> None:
        """Counts what was done up to now."""
        if not self.dead:
            self._advance()

    def _begin(self, call: Call) -> None:
        """Its prompts are computed: its rows begin, or wait for the next step."""
        if self.dead:
            return
        self._advance()
        if not call.left:
            self._answer(call)
        elif self._station.stepwise and self._rows and self._boundary - self._tokens > NEAR:
            self._next.append(call)
            self._plan()
        else:
            self._enter([call])
            self._plan()

    @property
    def _boundary(self) -> float:
        """The tokens at which a step ends, this one or the one under way: a whole number."""
        return math.ceil(self._tokens - NEAR)

    def _enter(self, calls: list[Call]) -> None:
        """Rows begin (mutates)."""
        if self._station.stepwise:
            self._tokens = float(self._boundary)
        for call in calls:
            for _, ask in call.asks:
                for length in ask.lengths:
                    self._count += 1
                    heappush(self._rows, (self._tokens + length, self._count, length, call))
        self._step = self._station.step(len(self._rows))

    def _advance(self) -> None:
        now = self._clock.now
        if now <= self._at:
            return
        reading = min(max(self._reads_until - self._at, 0.0), now - self._at)
        drawing = now - self._at - reading if self._rows else 0.0
        if drawing:
            self._tokens += drawing / self._step
        self._tally.busy += reading + drawing
        self._tally.row_seconds += drawing * len(self._rows)
        self._at = now

    def _plan(self) -> None:
        """Announces when the next row is done, or the step for which others wait."""
        self._version += 1
        if self._rows:
            self._target = min(self._rows[0][0], self._boundary) if self._next else self._rows[0][0]
            seconds = (self._target - self._tokens) * self._step
            begin = max(self._clock.now, self._reads_until)
            self._clock.at(begin + max(seconds, 0.0), self._end, self._version)

    def _end(self, version: int) -> None:
        """Rows are done, or a step is for which others wait."""
        if self.dead or version != self._version:
            return
        self._advance()
        done = []
        self._tokens = max(self._tokens, self._target)
        while self._rows and self._rows[0][0] <= self._target + NEAR:
            _, _, length, call = heappop(self._rows)
            call.left, call.drawn = call.left - 1, call.drawn + length
            if not call.left:
                done.append(call)
        if self._next and (not self._rows or self._boundary - self._tokens <= NEAR):
            waiting, self._next = self._next, []
            self._enter(waiting)
        self._step = self._station.step(len(self._rows))
        self._plan()
        for call in done:
            self._answer(call)

    def _answer(self, call: Call) -> None:
        del self._calls[call]
        self._tally.drawn += call.drawn
        call.answer(call)
        self._mark()

    def _mark(self) -> None:
        """Says whether it is at work."""
        if bool(self._calls) != self._working:
            self._working = not self._working
            if self._working:
                self._clock.began()
            else:
                self._clock.ended()
