"""The far end of a replica in another process: frames in, a part that is asked, frames out."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from policies.collector import relax
from policies.pool.home import Call, Finished, Home
from policies.pool.wire import Message, portable, read, together, write


class Serving:
    """A part that lives here and is asked over two streams; errors of the part are answers like any other.

    Calls that come in one frame begin in one turn of the part's event loop.
    """

    def __init__(self, inward: IO[bytes], outward: IO[bytes]):
        self._inward, self._outward = inward, outward
        self._answers: SimpleQueue[Message | None] = SimpleQueue()
        self._home: Home | None = None

    def __call__(self) -> None:
        """Serves until what comes in ends."""
        Thread(target=self._send, name="treewise-answers", daemon=True).start()
        with suppress(OSError):  # as if it had ended
            while (messages := read(self._inward)) is not None:
                self._begin(messages)
        self._answers.put(None)

    def _begin(self, messages: Sequence[Message]) -> None:
        calls: list[tuple[int, Call]] = []
        for number, content in messages:
            try:
                kind, asked = pickle.loads(content)
                if kind == "answers":
                    calls.append((number, asked))
                    continue
                future = self._other(kind, asked)
            except Exception as error:  # what is asked, or what builds the part, cannot be imported here
                future = Future()
                future.set_exception(error)
            future.add_done_callback(partial(self._answer, number))
        if calls:
            assert self._home is not None
            try:
                self._home.begin(calls, self._ended)
            except RuntimeError as left:
                for number, _ in calls:
                    self._answers.put((number, pickle.dumps((False, left))))

    def _ended(self, finished: Sequence[Finished]) -> None:
        for number, task in finished:
            self._answer(number, task)

    def _other(self, kind: str, asked: Any) -> Future[Any]:
        """What is no call of the part."""
        if kind == "enter":
            self._home = Home(*pickle.loads(asked))
            entered = self._home.enter()
            entered.add_done_callback(lambda _: relax())
            return entered
        if kind == "ping":
            alive: Future[Any] = Future()
            alive.set_result(None)
            return alive
        assert self._home is not None
        return self._home.ask(*asked) if kind == "ask" else self._home.leave()

    def _answer(self, number: int, future: Future[Any] | asyncio.Future[Any]) -> None:
        error = RuntimeError("the part has left") if future.cancelled() else future.exception()
        try:
            content = pickle.dumps((error is None, portable(error) if error else future.result()))
        except Exception as fault:  # an answer that cannot be sent is an answer that cannot be used
            content = pickle.dumps((False, RuntimeError(f"the answer cannot be pickled: {fault}")))
        self._answers.put((number, content))

    def _send(self) -> None:
        """Sends answers as they come; whoever is gone need not hear them."""
        with suppress(OSError):
            while messages := together(self._answers):
                write(self._outward, messages)
