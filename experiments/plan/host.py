"""Machines whose processors replicas share: in settings, and in simulated time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from experiments.plan.clock import Clock
from search.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Host:
    """Machines of one kind. A replica, and the driver, is a program that keeps one processor busy while it works.

    The times of the stations on it are seconds of a processor. While more programs work than there are processors,
    each gets an even part of them: processor sharing, with a processor for one program at most.

    Attributes:
        cores: processors of a machine.
        crowding: by what share a processor is slower while all of them compute than while one does: they share caches
            and memory, and may be two halves of one. In between it is taken as even. The times of the stations are
            those of a processor that computes alone.
        replicas: machines, over which the replicas of each station are dealt out in turn; the driver is on the first.
            None leaves their number to the plan.
        price: of one per hour.
        stations: that are on them; others have devices of their own.
    """

    cores: int
    crowding: float = 0.0
    replicas: int | None = 1
    price: float = 0.0
    stations: Sequence[str] = ("policy", "verifier", "grader", "driver")

    def __post_init__(self) -> None:
        for name in ("cores", "replicas"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a whole number of at least 1")
        for name in ("crowding", "price"):
            if not getattr(self, name) >= 0:
                raise ConfigError(name, getattr(self, name), "give a number of at least 0")

    def slower(self, working: float) -> float:
        """How many times as long as alone a processor takes for anything while so many compute."""
        others = (min(max(working, 1), self.cores) - 1) / (self.cores - 1) if self.cores > 1 else 0.0
        return 1 + self.crowding * others

    def speed(self, working: float) -> float:
        """Of a program of that many: its part of the processors, at the speed they have then."""
        return min(self.cores / max(working, 1), 1.0) / self.slower(working)


class Shared:
    """A machine in simulated time.

    Its own time is what a program gets that is always at work: it passes as the clock's does for one program, and
    slower for more than there are processors, or where these crowd each other. So programs plan in its time as if each
    were alone.

    Attributes:
        used: seconds of its processors at work, added up, as of the latest `settle`.
    """

    def __init__(self, clock: Clock, host: Host):
        self._clock, self._host = clock, host
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = self._version = self._working = 0
        self._passed = self._at = 0.0  # of its own time, up to when on the clock
        self._speed = 1.0
        self.used = 0.0

    @property
    def now(self) -> float:
        """Seconds of its own time since the beginning."""
        return self._passed + (self._clock.now - self._at) * self._speed

    def at(self, time: float, act: Callable[..., object], *arguments: Any) -> None:
        """`act(*arguments)` happens at `time`, of its own time."""
        self._count += 1
        heappush(self._events, (time, self._count, act, arguments))
        if self._events[0][1] == self._count:
            self._announce()

    def began(self) -> None:
        """One program more is at work."""
        self._work(1)

    def ended(self) -> None:
        """One has nothing to do any more."""
        self._work(-1)

    def settle(self) -> None:
        """Counts what was done up to now."""
        now = self._clock.now
        self.used += (now - self._at) * min(self._working, self._host.cores)
        self._passed, self._at = self.now, now

    def _work(self, more: int) -> None:
        self.settle()
        self._working += more
        speed = self._host.speed(self._working)
        if speed != self._speed:
            self._speed = speed
            self._announce()

    def _announce(self) -> None:
        """Tells the clock when the next event is."""
        self._version += 1
        if self._events:
            left = max(self._events[0][0] - self.now, 0.0)
            self._clock.at(self._clock.now + left / self._speed, self._step, self._version)

    def _step(self, version: int) -> None:
        if version != self._version:
            return
        self.settle()
        time, _, act, arguments = heappop(self._events)
        self._passed = max(self._passed, time)
        act(*arguments)
        self._announce()
