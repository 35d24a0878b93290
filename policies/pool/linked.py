"""A replica in another process, asked by frames over two streams, whoever has laid them."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import IO, Any

from policies.pool.home import Call
from policies.pool.replica import Gone, Replica
from policies.pool.wire import Message, read, together, write

Told = tuple[Future[Any] | asyncio.Future[Any], bool, Any]  # who waits, whether it is an answer or an error, and which


class Linked(Replica):
    """What a process and an actor have in common once they are reached; `policies.pool.serving` is at the other end.

    That the far end is gone is known at once: the stream from there ends.
    """

    def __init__(self) -> None:
        self._answers: dict[int, Future[Any] | asyncio.Future[Any]] = {}
        self._lock = threading.Lock()
        self._out: SimpleQueue[Message | None] = SimpleQueue()
        self._count, self._ended = 0, False

    @abstractmethod
    def _why(self) -> str:
        """Why the far end is gone; called once, in a thread, when its stream has ended."""

    async def work(self, call: Call) -> list[Any]:
        answers: list[Any] = await self._wait("answers", call)
        return answers

    async def ping(self) -> None:
        await self._wait("ping", None)

    def ask(self, name: str, arguments: Sequence[Any], limit: float) -> Any:
        answer = Future[Any]()
        self._post("ask", (name, tuple(arguments)), answer)
        try:
            return answer.result(limit)
        except TimeoutError:
            raise Gone(f"no answer within {limit:g} s") from None

    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        self._post("ask", (name, tuple(arguments)), Future())

    async def stop(self) -> None:
        await self._wait("leave", None)
        self.kill()

    def kill(self) -> None:
        self._ended = True
        self._out.put(None)

    def _attach(self, inward: IO[bytes], outward: IO[bytes]) -> None:
        """Starts the threads that serve the streams."""
        for target, pipe in ((self._write, outward), (self._read, inward)):
            threading.Thread(target=target, args=(pipe,), name="treewise-replica", daemon=True).start()

    async def _wait(self, kind: str, content: Any) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self._post(kind, content, answer)
        return await answer

    def _post(self, kind: str, content: Any, answer: Future[Any] | asyncio.Future[Any]) -> None:
        message = pickle.dumps((kind, content))
        with self._lock:
            if self._ended:
                answer.set_exception(Gone("the replica has ended"))
                return
            self._count += 1
            number, self._answers[self._count] = self._count, answer
        self._out.put((number, message))

    # ---- two threads: streams block ----

    def _write(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):  # it died: the reading thread tells
            while messages := together(self._out):
                write(pipe, messages)
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):  # as if it had ended
            while (messages := read(pipe)) is not None:
                told = []
                for number, content in messages:
                    with self._lock:
                        answer = self._answers.pop(number)
                    told.append((answer, *_opened(content)))
                _settle(told)
        with self._lock:
            self._ended = True
            left, self._answers = list(self._answers.values()), {}
        self._out.put(None)
        pipe.close()
        why = self._why()
        _settle([(answer, False, Gone(why)) for answer in left])


def _opened(content: bytes) -> tuple[bool, Any]:
    try:
        good, told = pickle.loads(content)
    except Exception as fault:  # an answer that cannot be read is an answer that cannot be used
        return False, RuntimeError(f"the answer cannot be read: {fault}")
    return good, told


def _settle(told: Sequence[Told]) -> None:
    """Each future hears its answer, where it belongs; those of an event loop together, for it is woken each time."""
    loops: dict[asyncio.AbstractEventLoop, list[Told]] = {}
    for answer, good, content in told:
        if isinstance(answer, asyncio.Future):
            loops.setdefault(answer.get_loop(), []).append((answer, good, content))
        elif answer.set_running_or_notify_cancel():
            _end(answer, good, content)
    for loop, some in loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed, and nobody waits
            loop.call_soon_threadsafe(_settle_here, some)


def _settle_here(told: Sequence[Told]) -> None:
    for answer, good, content in told:
        if not answer.done():
            _end(answer, good, content)


def _end(answer: Future[Any] | asyncio.Future[Any], good: bool, content: Any) -> None:
    if good:
        answer.set_result(content)
    else:
        answer.set_exception(content)
