"""Where a part lives: what it is asked, batch by batch, and an event loop in a thread of its own to do it in."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from search.batching import Batcher
from search.errors import TreewiseError

Build = Callable[[], Any]  # makes the part; can be pickled
Head = tuple[str, bool, bytes | None]  # of a call: method, columns and binding
Finished = tuple[int, asyncio.Task[Any]]  # a call's number, and what became of it
BOUND = 256  # bindings of a part that are remembered


class Call(NamedTuple):
    """Items of one caller for one method of the part.

    Attributes:
        columns: see `policies.pool.port.Port`.
        binding: what the part is bound to first (`search.ports.Binds`), pickled; None for nothing.
    """

    method: str
    columns: bool
    binding: bytes | None
    items: Sequence[Any]


class Work:
    """Builds a part, enters it and has it work, in the event loop it is used in.

    Args:
        build: makes the part.
        batch: concurrent calls are merged into batches of at most this many items; None leaves them as they come,
            for parts that batch continuously themselves.
    """

    def __init__(self, build: Build, batch: int | None):
        self._build = build
        self._bound: OrderedDict[bytes, Any] = OrderedDict()
        self._batcher: Batcher[Any, Any] | None = Batcher(self._mixed, batch) if batch else None

    async def enter(self) -> None:
        """Builds the part and loads what it needs."""
        self._part = self._build()
        if hasattr(self._part, "__aenter__"):
            self._part = await self._part.__aenter__()

    async def leave(self) -> None:
        """Lets the part end in order."""
        if hasattr(self._part, "__aexit__"):
            await self._part.__aexit__(None, None, None)

    def now(self, name: str, arguments: Sequence[Any]) -> Any:
        """What a method that is no coroutine returns."""
        return getattr(self._part, name)(*arguments)

    async def ask(self, name: str, arguments: Sequence[Any]) -> Any:
        """As `now`, in its turn."""
        return self.now(name, arguments)

    async def answers(self, call: Call) -> list[Any]:
        """What the part answers; raises what it raises."""
        if self._batcher is None:
            return await self._alone(call)
        answers = await self._batcher([(call[:3], item) for item in call.items])
        for answer in answers:
            if isinstance(answer, _Raised):
                raise answer.error
        return answers

    async def _alone(self, call: Call) -> list[Any]:
        method = getattr(self._to(call.binding), call.method)
        columns = zip(*call.items, strict=True) if call.columns else (call.items,)
        return list(await method(*columns))

    async def _mixed(self, asked: Sequence[tuple[Head, Any]]) -> list[Any]:
        """Answers to items of several callers; an item that fails has its error and does not take others with it."""
        answers: list[Any] = [None] * len(asked)
        for head in dict.fromkeys(head for head, _ in asked):
            places = [i for i, (other, _) in enumerate(asked) if other == head]
            for i, answer in zip(places, await self._halved(head, [asked[i][1] for i in places]), strict=True):
                answers[i] = answer
        return answers

    async def _halved(self, head: Head, items: Sequence[Any]) -> list[Any]:
        try:
            answers = await self._alone(Call(*head, items))
        except TreewiseError as error:
            if len(items) == 1:
                return [_Raised(error)]
            middle = len(items) // 2
            return [*await self._halved(head, items[:middle]), *await self._halved(head, items[middle:])]
        if len(answers) != len(items):
            raise RuntimeError(f"{len(answers)} answers came back for {len(items)} items")
        return answers

    def _to(self, binding: bytes | None) -> Any:
        """The part, bound."""
        if binding is None:
            return self._part
        if binding not in self._bound:
            self._bound[binding] = self._part.bind(pickle.loads(binding))
            if len(self._bound) > BOUND:
                self._bound.popitem(last=False)
        return self._bound[binding]


class _Raised(NamedTuple):
    """The error of one item in a batch of several callers."""

    error: TreewiseError


class Home:
    """`Work` in a thread, so that its host can be reached whatever the part does; callable from any thread."""

    def __init__(self, build: Build, batch: int | None):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="treewise-replica", daemon=True)
        self._work = Work(build, batch)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._finished: list[Finished] = []  # in this turn

    def enter(self) -> Future[None]:
        """As `Work.enter`; the thread begins."""
        self._thread.start()
        return self._go(self._work.enter())

    def answers(self, call: Call) -> Future[list[Any]]:
        """As `Work.answers`."""
        return self._go(self._work.answers(call))

    def begin(self, calls: Sequence[tuple[int, Call]], told: Callable[[Sequence[Finished]], None]) -> None:
        """Numbered calls that begin in one turn of the event loop; those that end in one are told there together.

        Raises:
            RuntimeError: the part has left.
        """

        def ended(number: int, task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not self._finished:
                self._loop.call_soon(flush)  # after all that end in this turn
            self._finished.append((number, task))

        def flush() -> None:
            finished, self._finished = self._finished, []
            told(finished)

        def begin() -> None:
            for number, call in calls:
                task = self._loop.create_task(self._work.answers(call))
                self._tasks.add(task)
                task.add_done_callback(partial(ended, number))

        self._loop.call_soon_threadsafe(begin)

    def ask(self, name: str, arguments: Sequence[Any]) -> Future[Any]:
        """As `Work.ask`."""
        return self._go(self._work.ask(name, arguments))

    def leave(self) -> Future[None]:
        """As `Work.leave`; the thread ends."""
        future = self._go(self._work.leave())
        future.add_done_callback(lambda _: self.end())
        return future

    def end(self) -> None:
        """Ends the thread at its next turn, the part as it is."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has closed its loop, and ends at this moment
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def _go(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        if self._loop.is_closed():
            coroutine.close()
            ended: Future[Any] = Future()
            ended.cancel()
            return ended
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


def _pass_on(future: Future[Any], task: asyncio.Task[Any]) -> None:
    """To the thread that waits."""
    if task.cancelled():
        future.cancel()
    elif future.set_running_or_notify_cancel():
        if (error := task.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())
