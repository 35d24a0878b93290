"""Keeps a pool's replicas: starts them, looks after them, replaces the lost, adds and removes with the load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from policies.pool.jobs import Slot
from policies.pool.replica import Gone, Replica
from search.errors import ConfigError, TreewiseError

if TYPE_CHECKING:
    from policies.pool.pool import Pool

PAUSE, LONGEST = 0.1, 30.0  # seconds before a replica that does not start is tried again: doubled each time, at most


class Keeper:
    """The replicas of one pool, by slot."""

    def __init__(self, pool: Pool, make: Callable[[int], Replica]):
        self._pool, self._make = pool, make
        self._ready: dict[int, Slot] = {}
        self._starting: dict[int, Replica] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Starts as many as there have to be; raises ConfigError if one cannot be started."""
        first = [asyncio.create_task(self._start(number)) for number in range(self._pool.rules.replicas)]
        try:
            await asyncio.gather(*first)
        except Exception as error:
            for task in first:
                task.cancel()
            await asyncio.gather(*first, return_exceptions=True)
            await self.close()
            if isinstance(error, TreewiseError):
                raise
            raise ConfigError("pool", type(self._pool).__name__, f"a replica does not start: {_said(error)}") from error
        self._later(self._watch())

    async def close(self) -> None:
        """Stops every replica; one that does not stop within ten seconds is killed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for replica in self._starting.values():
            replica.kill()
        slots, self._ready = list(self._ready.values()), {}
        await asyncio.gather(*(self._stop(slot.replica) for slot in slots))

    def replace(self, slot: Slot, why: str) -> None:
        """Gives a replica up, for a reason of `Counters.replaced`, and starts another in its slot."""
        if self._ready.get(slot.number) is not slot:
            return  # known already
        del self._ready[slot.number]
        replaced = self._pool.counters.replaced
        replaced[why] = replaced.get(why, 0) + 1
        slot.replica.kill()
        self._pool.left(slot)
        self._later(self._revive(slot.number))

    async def _start(self, number: int) -> None:
        """A replica is ready in this slot; raises what went wrong."""
        replica = self._starting[number] = self._make(number)
        try:
            await asyncio.wait_for(replica.start(), self._pool.rules.start)
        except BaseException:
            replica.kill()
            raise
        finally:
            del self._starting[number]
        self._ready[number] = slot = Slot(number, replica, time.monotonic())
        self._pool.joined(slot)

    async def _revive(self, number: int) -> None:
        """Tries until it succeeds; while no replica is ready, what waits is told after `retries` tries."""
        tries = 0
        while True:
            try:
                await self._start(number)
                return
            except Exception as error:  # whatever kept it from starting may have passed the next time
                tries += 1
                if tries > self._pool.rules.retries and not self._ready:
                    self._pool.hopeless(_said(error))
            await asyncio.sleep(min(PAUSE * 2**tries, LONGEST))

    async def _watch(self) -> None:
        """Every so often: are all alive, are they enough, are they too many?"""
        while True:
            await asyncio.sleep(self._pool.rules.health)
            await asyncio.gather(*(self._look(slot) for slot in list(self._ready.values())))
            self._fit()

    async def _look(self, slot: Slot) -> None:
        try:
            await asyncio.wait_for(slot.replica.ping(), self._pool.rules.health)
        except Gone:
            self.replace(slot, "died")
        except TimeoutError:
            self.replace(slot, "silent")

    def _fit(self) -> None:
        """One replica more while more than a replica's draws wait for each; one less when the last has been idle."""
        rules, numbers = self._pool.rules, {*self._ready, *self._starting}
        if rules.grows(len(numbers), self._pool.pressure):
            self._pool.counters.grown += 1
            self._later(self._revive(next(n for n in range(len(numbers) + 1) if n not in numbers)))
        last = self._ready.get(max(numbers, default=0))
        if last and rules.shrinks(len(numbers), last.load, time.monotonic() - last.used):
            self._pool.counters.shrunk += 1
            del self._ready[last.number]
            self._pool.left(last)
            self._later(self._stop(last.replica))

    async def _stop(self, replica: Replica) -> None:
        try:
            await asyncio.wait_for(replica.stop(), 10)
        except (Gone, TimeoutError):
            pass  # it has ended, or is ended now
        finally:
            replica.kill()

    def _later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it was not ready in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
