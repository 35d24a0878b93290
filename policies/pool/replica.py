"""One replica as the pool sees it, and the two kinds that live in this process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from policies.pool.home import Build, Call, Home, Work

T = TypeVar("T")


class Gone(Exception):
    """A replica is lost: it died, was killed, or cannot be reached. What it was asked may be asked elsewhere."""


class Replica(ABC):
    """A part at work somewhere. Every method but the synchronous ones belongs to the pool's event loop."""

    @abstractmethod
    async def start(self) -> None:
        """Builds and enters the part; raises what that raised, or Gone."""

    @abstractmethod
    async def work(self, call: Call) -> list[Any]:
        """What the part answers or raises; Gone if the replica is lost before it has."""

    @abstractmethod
    async def ping(self) -> None:
        """Returns if the replica is alive and can be reached; Gone, or never, if not."""

    @abstractmethod
    def ask(self, name: str, arguments: Sequence[Any], limit: float) -> Any:
        """What a method of the part that is no coroutine returns; waits for it, `limit` seconds at most; else Gone."""

    @abstractmethod
    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        """The same without an answer: a hint, which may be lost."""

    @abstractmethod
    async def stop(self) -> None:
        """Lets the part end in order."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the replica at once, whatever it does; all that waits for it hears Gone."""


class Mortal:
    """Waits that end with Gone when what they wait for is killed."""

    def __init__(self) -> None:
        self._dead = False
        self._waits: set[asyncio.Future[Any]] = set()

    async def until_death(self, awaitable: Awaitable[T]) -> T:
        """The result of `awaitable`; Gone once `die` is called."""
        wait = asyncio.ensure_future(awaitable)
        if self._dead:
            wait.cancel()
        self._waits.add(wait)
        try:
            return await wait
        except asyncio.CancelledError:
            if self._dead:
                raise Gone("the replica was killed") from None
            raise
        finally:
            self._waits.discard(wait)

    def die(self) -> None:
        """Ends all waits, and those to come."""
        self._dead = True
        for wait in list(self._waits):
            wait.cancel()


class Inline(Replica):
    """The part in the pool's own event loop: for parts that compute elsewhere, such as an endpoint, and for tests."""

    def __init__(self, build: Build, batch: int | None):
        self._work = Work(build, batch)
        self._mortal = Mortal()

    async def start(self) -> None:
        await self._mortal.until_death(self._work.enter())

    async def work(self, call: Call) -> list[Any]:
        return await self._mortal.until_death(self._work.answers(call))

    async def ping(self) -> None:
        await self._mortal.until_death(asyncio.sleep(0))

    def ask(self, name: str, arguments: Sequence[Any], limit: float) -> Any:
        return self._work.now(name, arguments)

    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        self._work.now(name, arguments)

    async def stop(self) -> None:
        await self._work.leave()

    def kill(self) -> None:
        self._mortal.die()


class Thread(Replica):
    """The part in a thread of this process. A thread cannot be killed: one that hangs is left behind."""

    def __init__(self, build: Build, batch: int | None):
        self._home = Home(build, batch)
        self._mortal = Mortal()

    async def start(self) -> None:
        await self._wait(self._home.enter())

    async def work(self, call: Call) -> list[Any]:
        return await self._wait(self._home.answers(call))

    async def ping(self) -> None:
        await self._mortal.until_death(asyncio.sleep(0))

    def ask(self, name: str, arguments: Sequence[Any], limit: float) -> Any:
        try:
            return self._home.ask(name, arguments).result(limit)
        except (TimeoutError, CancelledError):
            raise Gone(f"no answer within {limit:g} s") from None

    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        self._home.ask(name, arguments)

    async def stop(self) -> None:
        await self._wait(self._home.leave())

    def kill(self) -> None:
        self._mortal.die()
        self._home.end()

    async def _wait(self, future: Future[T]) -> T:
        return await self._mortal.until_death(asyncio.wrap_future(future))
