"""A replica in a process of its own on this machine: killable, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import IO, Any

from policies.pool.home import Build, Call
from policies.pool.replica import Gone, Replica
from policies.pool.wire import read, together, write

START = "policies.pool.worker"  # the program a replica runs


class Process(Replica):
    """A part in a program of its own, asked over its standard input and output.

    The program ignores Ctrl-C, and ends when this process does: its input closes.
    """

    def __init__(self, build: Build, batch: int | None, environment: Mapping[str, str]):
        self._content = pickle.dumps((build, batch))
        self._environment = environment
        self._answers: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._out: SimpleQueue[bytes | None] = SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._count, self._ended = 0, False

    @property
    def pid(self) -> int:
        """Of the program."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        await asyncio.to_thread(self._open)
        await self._wait("enter", self._content)

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
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _open(self) -> None:
        """Starts the program and the threads that serve it; whoever waits for that may be gone by then."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # what can be imported here can be there, and nothing else comes first
            env={**os.environ, **self._environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        for target, pipe in ((self._write, process.stdin), (self._read, process.stdout)):
            threading.Thread(target=target, args=(pipe,), name="treewise-replica", daemon=True).start()
        if self._ended:  # killed while it was being started
            process.kill()

    async def _wait(self, kind: str, content: Any) -> Any:
        return await asyncio.wrap_future(self._post(kind, content))

    def _post(self, kind: str, content: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            if self._ended:
                answer.set_exception(Gone("the replica has ended"))
                return answer
            self._count += 1
            number, self._answers[self._count] = self._count, answer
        self._out.put(pickle.dumps((number, kind, content)))
        return answer

    # ---- two threads: pipes block ----

    def _write(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):  # it died: the reading thread tells
            while messages := together(self._out):
                write(pipe, pickle.dumps(messages))
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self, pipe: IO[bytes]) -> None:
        while (frame := read(pipe)) is not None:
            for message in pickle.loads(frame):
                number, good, content = pickle.loads(message)
                with self._lock:
                    answer = self._answers.pop(number)
                if answer.set_running_or_notify_cancel():
                    if good:
                        answer.set_result(content)
                    else:
                        answer.set_exception(content)
        with self._lock:
            self._ended = True
            left, self._answers = list(self._answers.values()), {}
        self._out.put(None)
        pipe.close()
        assert self._process is not None
        status = self._process.wait()
        for answer in left:
            if answer.set_running_or_notify_cancel():
                answer.set_exception(Gone(f"the process ended with status {status}"))
