"""The program of a replica in a process of its own: frames in on standard input, frames out on standard output."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

from policies.collector import relax
from policies.pool.home import Call, Home
from policies.pool.wire import portable, read, together, write


def main() -> None:
    """Serves until its input closes; then it ends at once, whatever the part does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's business
    inward, outward = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the protocol
    answers: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=send, args=(answers, outward), name="treewise-answers", daemon=True).start()
    home: Home | None = None

    def answer(number: int, future: Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        try:
            message = pickle.dumps((number, error is None, portable(error) if error else future.result()))
        except Exception as fault:  # an answer that cannot be sent is an answer that cannot be used
            message = pickle.dumps((number, False, RuntimeError(f"the answer cannot be pickled: {fault}")))
        answers.put(message)

    while (frame := read(inward)) is not None:
        calls: list[tuple[int, Call]] = []
        for number, kind, content in map(pickle.loads, pickle.loads(frame)):
            future: Future[Any] = Future()
            if kind == "answers":
                calls.append((number, content))
                continue
            if kind == "enter":
                try:
                    home = Home(*pickle.loads(content))
                    future = home.enter()
                    future.add_done_callback(lambda _: relax())
                except Exception as error:  # what builds the part cannot be imported here
                    future.set_exception(error)
            elif kind == "ping":
                future.set_result(None)
            else:
                assert home is not None
                future = home.ask(*content) if kind == "ask" else home.leave()
            future.add_done_callback(partial(answer, number))
        if calls:
            assert home is not None
            for (number, _), future in zip(calls, home.together([call for _, call in calls]), strict=True):
                future.add_done_callback(partial(answer, number))
    os._exit(0)


def send(answers: SimpleQueue[bytes | None], pipe: IO[bytes]) -> None:
    """Sends answers as they come; whoever is gone need not hear them."""
    with suppress(OSError):
        while messages := together(answers):
            write(pipe, pickle.dumps(messages))


if __name__ == "__main__":
    main()
