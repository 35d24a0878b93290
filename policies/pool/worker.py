"""The program of a replica in a process of its own: frames in on standard input, frames out on standard output."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from concurrent.futures import Future
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
        if kind == "enter":
            try:
                home = Home(*pickle.loads(content))
                future = home.enter()
            except Exception as error:  # what builds the part cannot be imported here
                future = Future()
                future.set_exception(error)
        elif kind == "ping":
            future = Future()
            future.set_result(None)
        else:
            assert home is not None
            calls = {"answers": home.answers, "ask": lambda asked: home.ask(*asked), "leave": lambda _: home.leave()}
            future = calls[kind](content)
        future.add_done_callback(lambda done, number=number: answer(number, done))
    os._exit(0)


if __name__ == "__main__":
    main()
