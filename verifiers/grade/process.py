"""One killable process as its parent sees it: hand it a piece of work, wait within limits, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from search.errors import VerifierError

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 180.0  # seconds for a process to start and import, on a machine however busy
RECYCLE_AFTER = 5000  # pieces of work, since caches of symbolic algebra only grow


@dataclass(frozen=True, slots=True)
class Finished:
    """How a piece of work ended.

    Attributes:
        kind: "done"; "timeout": over its processor time or the wall backstop; "memory": over its memory;
            "died": the process ended in another way; "error": the function raised.
        value: what the function returned when done, else None.
        seconds: processor time used; the limit where a timeout cut it off.
        note: what happened, for people; "" when done.
    """

    kind: Literal["done", "timeout", "memory", "died", "error"]
    value: Any = None
    seconds: float = 0.0
    note: str = ""


class Process:
    """One process; used by one thread at a time."""

    def __init__(self, *, memory: int, warm: str | None):
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.memory, self.served, self.worn = memory, 0, False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "verifiers.grade.worker", json.dumps({"memory": memory, "warm": warm})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # A fixed hash seed: symbolic algebra iterates over sets, and its verdicts must not depend on their order.
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            start_new_session=True,
        )
        self._buffer = b""

    def ready(self) -> None:
        """Wait until the process has started. Raises VerifierError."""
        if self._line(START_LIMIT) is None:
            self.kill()
            raise VerifierError(
                f"a grading process did not start (exit status {self._process.returncode}); "
                f"try `{sys.executable} -c 'import verifiers.grade.equal'`"
            )

    def work(self, target: str, arguments: tuple[Any, ...], *, cpu: float, wall: float) -> Finished:
        """Have one piece of work done. Unless it ends as "done" or "error" the process is gone afterwards."""
        request = json.dumps({"target": target, "arguments": arguments, "cpu": cpu})
        started = time.monotonic()
        self.served += 1
        self.worn = self.served >= RECYCLE_AFTER
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(wall)
        except BrokenPipeError:
            line = None
        if line is not None:
            return self._read(json.loads(line))
        in_time = time.monotonic() - started < wall
        status = self.kill()
        if status == -signal.SIGPROF:
            return Finished("timeout", seconds=cpu, note=f"over {cpu:g} s of processor time")
        if not in_time:
            return Finished("timeout", seconds=cpu, note=f"over {wall:g} s of wall time")
        return Finished("died", note=f"the process ended with status {status}")

    def _read(self, reply: dict[str, Any]) -> Finished:
        seconds, peak = reply["seconds"], reply["peak"]
        # Libraries turn a MemoryError into a False; an address space that came near its limit tells the truth.
        if reply.get("memory") or peak > 0.95 * self.memory:
            self.kill()
            return Finished("memory", seconds=seconds, note=f"over {self.memory >> 20} MiB of memory")
        if peak > 0.5 * self.memory:
            self.worn = True
        if "error" in reply:
            return Finished("error", seconds=seconds, note=reply["error"])
        return Finished("done", reply["value"], seconds)

    def _line(self, limit: float) -> bytes | None:
        """The next line of the reply; None when the process ends or `limit` seconds pass first."""
        assert self._process.stdout is not None
        source, deadline = self._process.stdout.fileno(), time.monotonic() + limit
        poll = select.poll()
        poll.register(source, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not poll.poll(1000 * remaining):
                return None
            chunk = os.read(source, 1 << 16)
            if not chunk:
                # End of output: give the process the moment it needs to be reported as ended by its own signal.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)
                return None
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def kill(self) -> int:
        """End the process at once, whatever it does; its exit status."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # a request it never read
                pipe.close()
        return self._process.wait()

    def interrupt(self) -> None:
        """End the process from another thread: the one that uses the worker notices and clears up."""
        self._process.kill()
