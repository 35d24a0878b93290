"""The processes under one: what they use, how they are ended and cleared away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CLOCK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process(NamedTuple):
    """A process that runs: its number, seconds of processor time, seconds in the queue for a processor, and resident
    bytes of its own.
    """

    pid: int
    seconds: float
    queued: float
    private: int


def descendants(pid: int) -> list[int]:
    """Every process under `pid`; [] where the system does not tell."""
    found: list[int] = []
    for task in _names(f"/proc/{pid}/task"):
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def end_all(pid: int) -> None:
    """Kill a process and everything under it."""
    for each in [pid, *descendants(pid)]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def under_us() -> Iterator[Process]:
    """Everything under this process."""
    for pid in descendants(os.getpid()):
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            queued = 0
            for task in _names(f"/proc/{pid}/task"):
                with suppress(OSError, IndexError, ValueError):  # a kernel may not count it
                    queued += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[1])
            pages = Path(f"/proc/{pid}/statm").read_text().split()
            private = PAGE * (int(pages[1]) - int(pages[2]))
            yield Process(pid, sum(map(int, fields[11:15])) / CLOCK, queued / 1e9, private)


def shared_out(processes: list[Process]) -> int:
    """Resident bytes of several processes, what they share counted once."""
    total = 0
    for each in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{each.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def threads_of_user() -> int:
    """Threads of this user now, which count towards the limit of programs that run as the same user."""
    mine, count = os.getuid(), 0
    for name in _names("/proc"):
        if name.isdigit():
            with suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == mine:
                    count += len(_names(f"/proc/{name}/task"))
    return count


def reap() -> bool:
    """Clear away every child that has ended, waiting a moment; whether any is left."""
    until = time.monotonic() + 0.2
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            if time.monotonic() > until:
                return True
            time.sleep(0.001)
