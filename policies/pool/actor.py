"""A replica as a Ray actor. Everything that knows Ray's calls is here and in `cluster`."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from policies.collector import relax
from policies.pool.home import Build, Call, Home
from policies.pool.replica import Gone, Mortal, Replica
from policies.pool.wire import portable

Answer = tuple[int, bool, bytes]  # number, whether it is one or an error, and which, pickled
AT_ONCE = 10_000  # calls in one actor; the pool keeps the measure


class Resident:
    """The class of the actor: a part in a thread of its own, so that the actor can always be reached.

    Calls return (True, answers) or (False, error): an error of the part is an answer, one of Ray is a loss. A call of
    Ray takes longer than many a step of a small model, so work of one moment comes by one call, and what is ready goes
    back by one.
    """

    def __init__(self, build: Build, batch: int | None):
        self._home = Home(build, batch)
        self._ready: asyncio.Queue[Answer] = asyncio.Queue()

    async def enter(self) -> tuple[bool, Any]:
        told = await _told(self._home.enter())
        relax()
        return told

    async def begin(self, content: bytes) -> None:
        """Begins numbered calls in one turn of the part's event loop."""
        calls: Sequence[tuple[int, Call]] = pickle.loads(content)
        loop = asyncio.get_running_loop()
        for (number, _), future in zip(calls, self._home.together([call for _, call in calls]), strict=True):
            future.add_done_callback(partial(self._done, loop, number))

    def _done(self, loop: asyncio.AbstractEventLoop, number: int, future: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            loop.call_soon_threadsafe(self._ready.put_nowait, (number, *_outcome(future)))

    async def collect(self) -> list[Answer]:
        """The answers that are ready; waits for one."""
        found = [await self._ready.get()]
        while not self._ready.empty():
            found.append(self._ready.get_nowait())
        return found

    async def ask(self, name: str, arguments: Sequence[Any]) -> tuple[bool, Any]:
        return await _told(self._home.ask(name, arguments))

    async def ping(self) -> tuple[bool, Any]:
        return True, None

    async def leave(self) -> tuple[bool, Any]:
        return await _told(self._home.leave())


async def _told(future: Any) -> tuple[bool, Any]:
    try:
        return True, await asyncio.wrap_future(future)
    except Exception as error:  # whatever the part raises is its answer
        return False, portable(error)


def _outcome(future: Future[Any]) -> tuple[bool, bytes]:
    error = RuntimeError("the part has left") if future.cancelled() else future.exception()
    try:
        return error is None, pickle.dumps(portable(error) if error else future.result())
    except Exception as fault:  # an answer that cannot be sent is an answer that cannot be used
        return False, pickle.dumps(RuntimeError(f"the answer cannot be pickled: {fault}"))


class Actor(Replica):
    """A part in a Ray actor; the pool starts another when it is lost, so Ray restarts and repeats nothing."""

    def __init__(self, build: Build, batch: int | None, options: Callable[[], Mapping[str, Any]]):
        self._content, self._options = (build, batch), options
        self._mortal = Mortal()
        self._actor: Any = None
        self._count = 0
        self._new: list[tuple[int, Call]] = []
        self._waiting: dict[int, asyncio.Future[tuple[bool, Any]]] = {}
        self._collecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        import ray

        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": AT_ONCE, **self._options()}
        self._actor = ray.remote(Resident).options(**options).remote(*self._content)
        await self._wait(self._actor.enter.remote())

    async def work(self, call: Call) -> list[Any]:
        loop = asyncio.get_running_loop()
        if not self._new:
            loop.call_soon(self._send)  # after all who ask in this turn
        self._count += 1
        number, self._waiting[self._count] = self._count, loop.create_future()
        self._new.append((number, call))
        try:
            answers: list[Any] = _result(await self._mortal.until_death(self._waiting[number]))
        finally:
            self._waiting.pop(number, None)
        return answers

    def _send(self) -> None:
        """Sends what was asked in this turn, and sees to it that somebody waits for the answers."""
        calls, self._new = self._new, []
        numbers = [number for number, _ in calls]
        try:
            reference = self._actor.begin.remote(pickle.dumps(calls))
        except Exception as error:  # what cannot be sent
            self._fail(numbers, error)
            return
        reference.future().add_done_callback(partial(self._begun, asyncio.get_running_loop(), numbers))
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self._collect())

    def _begun(self, loop: asyncio.AbstractEventLoop, numbers: Sequence[int], sent: Future[Any]) -> None:
        if not sent.cancelled() and (error := sent.exception()) is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(self._fail, numbers, Gone(_said(error)))

    async def _collect(self) -> None:
        """Hands out answers as long as somebody waits."""
        while self._waiting:
            try:
                ready = await self._mortal.until_death(asyncio.wrap_future(self._actor.collect.remote().future()))
            except Exception as error:  # Gone, or an error of Ray: nothing more comes from this actor
                self._fail(list(self._waiting), error if isinstance(error, Gone) else Gone(_said(error)))
                return
            for number, good, content in ready:
                if (answer := self._waiting.get(number)) is not None and not answer.done():
                    answer.set_result((good, pickle.loads(content)))

    def _fail(self, numbers: Sequence[int], error: Exception) -> None:
        for number in numbers:
            if (answer := self._waiting.get(number)) is not None and not answer.done():
                answer.set_exception(error)

    async def ping(self) -> None:
        await self._wait(self._actor.ping.remote())

    def ask(self, name: str, arguments: Sequence[Any], limit: float) -> Any:
        import ray

        try:
            return _result(ray.get(self._actor.ask.remote(name, tuple(arguments)), timeout=limit))
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise Gone(_said(error)) from error

    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        self._actor.ask.remote(name, tuple(arguments))

    async def stop(self) -> None:
        await self._wait(self._actor.leave.remote())

    def kill(self) -> None:
        import ray

        self._mortal.die()
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor, no_restart=True)

    async def _wait(self, reference: Any) -> Any:
        import ray

        try:
            told = await self._mortal.until_death(asyncio.wrap_future(reference.future()))
        except ray.exceptions.RayError as error:
            raise Gone(_said(error)) from error
        return _result(told)


def _result(told: tuple[bool, Any]) -> Any:
    good, content = told
    if not good:
        raise content
    return content


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
