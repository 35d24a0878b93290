"""The process that watches a program: starts it once per test, reads what it writes, and ends it with all its own.

It is trusted and out of the program's reach: the first process of its namespace, another user, or (with limits alone)
a process the program may not signal. It sees the inputs of tests but never what is expected.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from verifiers.grade.code import harness, isolate, processes, wire

TICK = 0.05  # seconds between looks at a program that runs
TAIL = 4096  # bytes kept of what goes to standard error
OURS = 3  # of a program's processes where it has no user of its own: this one, its parent and the zygote
OUT, ERROR, RESULT = "out", "error", "result"


@dataclass
class Test:
    """A test under way.

    Attributes:
        main: the process whose end is the end of the test.
        pipes: what is read, by file number.
        data: what has been read.
    """

    main: int
    pipes: dict[int, str]
    data: dict[str, bytearray] = field(
        default_factory=lambda: {OUT: bytearray(), ERROR: bytearray(), RESULT: bytearray()}
    )
    began: float = field(default_factory=time.monotonic)
    reaped: float = 0.0  # processor time of processes that have ended
    status: int | None = None
    broken: str = ""  # the limit that was broken


class Supervisor:
    """Serves one run over its channel: first the program, then tests, each answered when it has ended.

    Args:
        channel: a connected socket.
        base: where scratch folders are made; "" for one in memory.
        kind: "namespaces", "limits" or "none".
        users: how many there are in our namespace.
    """

    def __init__(self, channel: int, base: str, kind: str, users: int):
        self.channel, self.base, self.kind, self.users = channel, base, kind, users
        self.scratch = isolate.SCRATCH
        self._mounted = False

    def serve(self) -> None:
        """Until the other end hangs up."""
        message = wire.receive(self.channel)
        if message is None:
            return
        job = message[0]
        limits = job["limits"]
        ours = 0 if self.users > 1 else OURS if self.kind == "namespaces" else processes.threads_of_user()
        limits["nproc"] = limits["processes"] + ours
        while (message := wire.receive(self.channel)) is not None:
            self._clean(limits)
            head, payload = self._test(job, message[1])
            wire.send(self.channel, head, payload)
        if self.base:
            _remove(self.scratch)

    def _clean(self, limits: dict[str, Any]) -> None:
        """An empty scratch folder."""
        if self.kind == "namespaces":
            isolate.fresh_scratch(limits["scratch"], self._mounted)
            self._mounted = True
            return
        if self._mounted:
            _remove(self.scratch)
        self.scratch = tempfile.mkdtemp(dir=self.base)
        self._mounted = True

    def _test(self, job: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        test = self._start(job, payload)
        limits = job["limits"]
        watch = select.poll()
        end = os.pidfd_open(test.main)
        for fd in (*test.pipes, end):
            watch.register(fd, select.POLLIN | select.POLLHUP)
        while not test.broken:
            ready = [fd for fd, _ in watch.poll(1000 * TICK)]
            for fd in ready:
                if fd != end and not self._read(test, fd, limits):
                    watch.unregister(fd)
            if end in ready:
                break
            if not test.broken:
                test.broken = self._over(test, limits)
        os.close(end)
        self._end(test, limits)
        return self._report(test, limits)

    def _start(self, job: dict[str, Any], payload: bytes) -> Test:
        """Fork what the test needs."""
        given = os.memfd_create("input")
        os.write(given, payload) if len(payload) < 1 << 20 else _write(given, payload)
        os.lseek(given, 0, os.SEEK_SET)
        nothing = os.open("/dev/null", os.O_RDWR)
        names = (OUT, ERROR, RESULT)
        ends = {name: os.pipe() for name in names}
        out, error, result = (ends[name][1] for name in names)
        if job["mode"] == "check":
            here, there = (end.detach() for end in harness.pair())
            self._fork(job, 1, [nothing, nothing, nothing, here], harness.play)
            main = self._fork(job, 0, [given, nothing, error, there, result], harness.judge)
            os.close(here)
            os.close(there)
        else:
            main = self._fork(job, 1, [given, out, error, result], harness.run)
        for fd in (given, nothing, out, error, result):
            os.close(fd)
        for name in names:
            os.set_blocking(ends[name][0], False)
        return Test(main, {ends[name][0]: name for name in names})

    def _fork(self, job: dict[str, Any], user: int, files: list[int], target: Any) -> int:
        """Run `target` in a process of its own behind all walls, with `files` as its first files."""
        pid = os.fork()
        if pid:
            return pid
        status = 70
        try:
            os.setsid()
            high = [os.dup2(fd, 100 + place) for place, fd in enumerate(files)]
            for place, fd in enumerate(high):
                os.dup2(fd, place)
            os.closerange(len(files), 1024)
            harness.settle(self.scratch)
            isolate.shut(self.kind, job["limits"], self.scratch, user if self.users > 1 else None)
            status = target(job)
        finally:
            os._exit(status)

    def _read(self, test: Test, fd: int, limits: dict[str, Any]) -> bool:
        """Take what a pipe holds; False at its end."""
        name = test.pipes[fd]
        try:
            chunk = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        kept = test.data[name]
        kept += chunk
        if name == ERROR:
            del kept[:-TAIL]
        elif len(kept) > limits["output"]:
            del kept[limits["output"] :]
            test.broken = "output"
        return bool(chunk)

    def _over(self, test: Test, limits: dict[str, Any]) -> str:
        """The limit that is broken now; "" for none."""
        running = list(processes.under_us())
        used = test.reaped + sum(each.seconds for each in running)
        if used > limits["cpu"]:
            return "cpu"
        if time.monotonic() - test.began - used - sum(each.queued for each in running) > limits["wall"]:
            return "wall"
        if len(running) > limits["processes"] + 8:
            return "processes"
        if (
            sum(each.private for each in running) > limits["memory"]
            and processes.shared_out(running) > limits["memory"]
        ):
            return "memory"
        self._reap(test)
        return ""

    def _reap(self, test: Test, options: int = os.WNOHANG) -> bool:
        """Clear away children that have ended, the one that is watched left out; whether there are more."""
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | options)
            if found is None or (found.si_pid == test.main and test.status is None and options):
                return found is not None
            pid, status, usage = os.wait4(found.si_pid, 0)
        except ChildProcessError:
            return False
        test.reaped += usage.ru_utime + usage.ru_stime
        if pid == test.main:
            test.status = status
        return True

    def _end(self, test: Test, limits: dict[str, Any]) -> None:
        """Kill what still runs, clear it away, and read what it had written."""
        while True:
            if self.kind == "namespaces":
                with suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)
            else:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(test.main, signal.SIGKILL)
                for pid in processes.descendants(os.getpid()):
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            if not self._reap(test, 0):
                break
        for fd in test.pipes:
            if test.broken != "output":
                before = -1
                while before != (before := sum(map(len, test.data.values()))) and not test.broken:
                    self._read(test, fd, limits)
            os.close(fd)

    def _report(self, test: Test, limits: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        assert test.status is not None
        return {
            "broken": test.broken,
            "code": os.waitstatus_to_exitcode(test.status),
            "seconds": round(test.reaped, 6),
            "result": bytes(test.data[RESULT]).decode(errors="replace"),
            "error": bytes(test.data[ERROR]).decode(errors="replace"),
        }, bytes(test.data[OUT])


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _remove(folder: str) -> None:
    """Delete a scratch folder, whatever rights a program left in it."""
    for place, folders, _ in os.walk(folder):
        with suppress(OSError):
            os.chmod(place, stat.S_IRWXU)
        for name in folders:
            with suppress(OSError):
                if not os.path.islink(os.path.join(place, name)):
                    os.chmod(os.path.join(place, name), stat.S_IRWXU)
    shutil.rmtree(folder, ignore_errors=True)
