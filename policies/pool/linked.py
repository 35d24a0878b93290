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


class Linked(Replica):
    """What a process and an actor have in common once they are reached; `policies.pool.serving` is at the other end.

    That the far end is gone is known at once: the stream from there ends.
    """

    def __init__(self) -> None:
        self._answers: dict[int, Future[Any]] = {}
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
        try:
            return self._post("ask", (name, tuple(arguments))).result(limit)
        except TimeoutError:
            raise Gone(f"no answer within {limit:g} s") from None

    def tell(self, name: str, arguments: Sequence[Any]) -> None:
        self._post("ask", (name, tuple(arguments)))

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
        return await asyncio.wrap_future(self._post(kind, content))

    def _post(self, kind: str, content: Any) -> Future[Any]:
        message, answer = pickle.dumps((kind, content)), Future[Any]()
        with self._lock:
            if self._ended:
                answer.set_exception(Gone("the replica has ended"))
                return answer
            self._count += 1
            number, self._answers[self._count] = self._count, answer
        self._out.put((number, message))
        return answer

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
                for number, content in messages:
                    with self._lock:
                        answer = self._answers.pop(number)
                    if answer.set_running_or_notify_cancel():
                        _settle(answer, content)
        with self._lock:
            self._ended = True
            left, self._answers = list(self._answers.values()), {}
        self._out.put(None)
        pipe.close()
        why = self._why()
        for answer in left:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(Gone(why))


def _settle(answer: Future[Any], content: bytes) -> None:
    try:
        good, told = pickle.loads(content)
    except Exception as fault:  # an answer that cannot be read is an answer that cannot be used
        good, told = False, RuntimeError(f"the answer cannot be read: {fault}")
    if good:
        answer.set_result(told)
    else:
        answer.set_exception(told)
