"""A replica in a process of its own on this machine: killable, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping

from policies.pool.home import Build
from policies.pool.linked import Linked

START = "policies.pool.worker"  # the program a replica runs


class Process(Linked):
    """A part in a program of its own, asked over its standard input and output.

    The program ignores Ctrl-C, and ends when this process does: its input closes.
    """

    def __init__(self, build: Build, batch: int | None, environment: Mapping[str, str]):
        super().__init__()
        self._content = pickle.dumps((build, batch))
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the program."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        await asyncio.to_thread(self._open)
        await self._wait("enter", self._content)

    def kill(self) -> None:
        super().kill()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _open(self) -> None:
        """Starts the program; whoever waits for that may be gone by then."""
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # what can be imported here can be there, and nothing else comes first
            env={**os.environ, **self._environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        self._attach(process.stdout, process.stdin)
        if self._ended:  # killed while it was being started
            process.kill()

    def _why(self) -> str:
        assert self._process is not None
        return f"the process ended with status {self._process.wait()}"
