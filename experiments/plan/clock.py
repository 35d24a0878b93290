"""Time that jumps from event to event."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Events in the order of their times; those of one time in the order in which they were announced.

    Attributes:
        now: seconds since the beginning.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, time: float, act: Callable[..., object], *arguments: Any) -> None:
        """`act(*arguments)` happens at `time`, which has not passed yet."""
        self._count += 1
        heappush(self._events, (time, self._count, act, arguments))

    def began(self) -> None:
        """A replica is at work; it has a device of its own, so that others are not slower for it."""

    def ended(self) -> None:
        """It has nothing to do any more."""

    def step(self) -> bool:
        """The next event happens; False if there is none."""
        if not self._events:
            return False
        self.now, _, act, arguments = heappop(self._events)
        act(*arguments)
        return True
