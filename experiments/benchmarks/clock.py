"""An event loop whose clock does not wait: figures of schedules, the same on every machine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Simulated(asyncio.SelectorEventLoop):
    """When nothing is to be done, the clock is set to the next timer. For programs that wait for nothing but timers."""

    def __init__(self) -> None:
        self._clock = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds that would have passed."""
        return self._clock

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        live = [timer.when() for timer in timers if not timer.cancelled()]
        if live and not self._ready:  # type: ignore[attr-defined]
            self._clock = max(self._clock, min(live))
        super()._run_once()  # type: ignore[misc]


def simulated(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, its seconds those of a simulated clock."""
    with asyncio.Runner(loop_factory=Simulated) as runner:
        return runner.run(work)
