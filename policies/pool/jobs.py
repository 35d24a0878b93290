"""What is in work: an item on its way, and a slot with its replica, its queue and its load."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from policies.pool.port import Port
from policies.pool.replica import Replica


@dataclass(eq=False, slots=True)
class Job:
    """One item.

    Attributes:
        head: port, binding and who asked; items with the same head may leave together.
        weight: draws.
        tries: that failed.
        avoid: the slot that failed it last.
    """

    head: tuple[Port, bytes | None, object]
    item: Any
    weight: int
    future: asyncio.Future[Any]
    key: bytes
    tries: int = 0
    avoid: int = -1

    @property
    def port(self) -> Port:
        return self.head[0]


@dataclass(eq=False, slots=True)
class Slot:
    """A replica that is ready.

    Attributes:
        queue: what waits for room in it.
        queued, working: draws that wait, and that it has.
        alone: whether it has an item that must have no company.
        strikes: faults since its last answer.
        used: when its last call ended, in seconds of the monotonic clock.
    """

    number: int
    replica: Replica
    used: float
    queue: deque[Job] = field(default_factory=deque)
    queued: int = 0
    working: int = 0
    alone: bool = False
    strikes: int = 0

    @property
    def load(self) -> int:
        """Draws that wait here or are at work."""
        return self.queued + self.working

    def put(self, job: Job) -> None:
        """Adds to the queue."""
        self.queue.append(job)
        self.queued += job.weight

    def clear(self) -> None:
        """Empties the queue."""
        self.queue.clear()
        self.queued = 0

    def take(self, rows: int, alone: Callable[[Job], bool]) -> list[Job]:
        """What leaves now: the first in the queue and its company, as far as there is room; [] for nothing."""
        group: list[Job] = []
        while self.queue and not self.alone:
            job = self.queue[0]
            if job.future.done():  # its caller was cancelled
                self._pop()
                continue
            if alone(job):
                if self.working or group:
                    break
                self.alone = True
            elif group and job.head is not group[0].head:
                break
            if self.working and self.working + job.weight > rows:
                break
            group.append(self._pop())
            self.working += job.weight
        return group

    def done(self, group: list[Job], now: float) -> None:
        """`group` is no longer at work."""
        self.working -= sum(job.weight for job in group)
        self.alone, self.used = False, now

    def _pop(self) -> Job:
        job = self.queue.popleft()
        self.queued -= job.weight
        return job
