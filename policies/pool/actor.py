"""A replica as a Ray actor. Everything that knows Ray's calls is here and in `cluster`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policies.collector import relax
from policies.pool.home import Build, Call, Home
from policies.pool.replica import Gone, Mortal, Replica
from policies.pool.wire import portable

AT_ONCE = 10_000  # calls in one actor; the pool keeps the measure


class Resident:
    """The class of the actor: a part in a thread of its own, so that the actor can always be reached.

    Calls return (True, answers) or (False, error): an error of the part is an answer, one of Ray is a loss.
    """

    def __init__(self, build: Build, batch: int | None):
        self._home = Home(build, batch)

    async def enter(self) -> tuple[bool, Any]:
        told = await _told(self._home.enter())
        relax()
        return told

    async def answers(self, call: Call) -> tuple[bool, Any]:
        return await _told(self._home.answers(call))

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


class Actor(Replica):
    """A part in a Ray actor; the pool starts another when it is lost, so Ray restarts and repeats nothing."""

    def __init__(self, build: Build, batch: int | None, options: Callable[[], Mapping[str, Any]]):
        self._content, self._options = (build, batch), options
        self._mortal = Mortal()
        self._actor: Any = None

    async def start(self) -> None:
        import ray

        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": AT_ONCE, **self._options()}
        self._actor = ray.remote(Resident).options(**options).remote(*self._content)
        await self._wait(self._actor.enter.remote())

    async def work(self, call: Call) -> list[Any]:
        answers: list[Any] = await self._wait(self._actor.answers.remote(call))
        return answers

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


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
