"""The program of a replica in a process of its own: frames in on standard input, frames out on standard output."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from concurrent.futures import Future
from functools import partial
from threading import Lock
from typing import Any

from policies.pool.home import Home
from policies.pool.wire import portable, read, write


def main() -> None:
    """Serves until its input closes; then it ends at once, whatever the part does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pool's business
    inward, outward, lock = sys.stdin.buffer, os.fdopen(os.dup(1), "wb"), Lock()
    os.dup2(2, 1)  # a library that prints must not break the protocol
    home: Home | None = None

    def answer(number: int, future: Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        try:
            frame = pickle.dumps((number, error is None, portable(error) if error else future.result()))
        except Exception as fault:  # an answer that cannot be sent is an answer that cannot be used
            frame = pickle.dumps((number, False, RuntimeError(f"the answer cannot be pickled: {fault}")))
        with lock:
            write(outward, frame)

    while (frame := read(inward)) is not None:
        number, kind, content = pickle.loads(frame)
        future: Future[Any] = Future()
        if kind == "enter":
            try:
                home = Home(*pickle.loads(content))
                future = home.enter()
            except Exception as error:  # what builds the part cannot be imported here
                future.set_exception(error)
        elif kind == "ping":
            future.set_result(None)
        else:
            assert home is not None
            future = asked(home, kind, content)
        future.add_done_callback(partial(answer, number))
    os._exit(0)


def asked(home: Home, kind: str, content: Any) -> Future[Any]:
    """What a frame asks of the part."""
    if kind == "answers":
        return home.answers(content)
    return home.ask(*content) if kind == "ask" else home.leave()


if __name__ == "__main__":
    main()
