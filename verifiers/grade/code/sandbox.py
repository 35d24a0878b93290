"""A sandbox as its parent sees it: hand it a program and tests, one after the other; kill it.

The walls are those of `verifiers.grade.code.isolate`, in order of preference:

    namespaces  Linux namespaces, by the kernel's own calls.
    bubblewrap  the same by the program `bwrap`, where only it may make namespaces; inside, the limits below.
    limits      the declared second choice: no network, no signals, no writing outside the scratch folder (Landlock and
                seccomp) and limits of the kernel, but no process namespace, and each file is limited, not all together.
    none        limits of processor time, memory and output only. Never chosen unless asked for: programs then run with
                the rights of their caller.

"auto" takes the first of the first three that works here, and none of them working raises `NoIsolation`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from search.errors import ConfigError, VerifierError
from verifiers.grade.code import isolate, wire
from verifiers.grade.code.program import NOTHING, Isolation, Limits, Program, Ran

ROOT = Path(__file__).resolve().parents[3]
START_LIMIT = 180.0  # seconds to start and import, on a machine however busy
SLACK = 60.0  # seconds beyond all limits that a supervisor may take to say what happened
CROWD = 40  # times its processor time that a program may take on a crowded machine
ORDER: tuple[Isolation, ...] = ("namespaces", "bubblewrap", "limits")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
}  # fmt: skip


class NoIsolation(VerifierError):
    """Programs cannot be isolated on this machine, and running them without was not asked for."""


class Sandbox:
    """Runs programs one at a time; used by one thread. A new one starts when it is first needed, or after a kill.

    Args:
        isolation: one of the above.
        limits: of every test.
    """

    def __init__(self, isolation: Isolation = "auto", limits: Limits | None = None):
        if isolation not in ("auto", "none", *ORDER):
            raise ConfigError("isolation", isolation, f"give auto, {', '.join(ORDER)} or none")
        self.isolation, self.limits = isolation, limits or Limits()
        self.kind: Isolation | None = None  # what was found to work
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._busy = False  # a run has not been reported as ended
        self._rest = b""

    def run(
        self, program: Program, tests: Sequence[bytes], go_on: Callable[[int, Ran], bool] = lambda _, __: True
    ) -> list[Ran]:
        """How each test ended; no more tests are run once `go_on`, asked after each, says no.

        Args:
            tests: standard input, a JSON list of arguments, or source of checks, by the mode of the program.

        Raises:
            NoIsolation, VerifierError: the sandbox cannot be started, or broke.
        """
        done: list[Ran] = []
        here, there = socket.socketpair()
        try:
            try:
                self._begin(there)
            finally:
                there.close()
            limits = {**asdict(self.limits), "wall": self.limits.patience}
            wire.send(here.fileno(), {**asdict(program), "limits": limits})
            for test in tests:
                done.append(self._test(here, test))
                if not go_on(len(done) - 1, done[-1]):
                    break
        except (OSError, ValueError) as error:
            self.close()
            raise VerifierError(f"the sandbox broke: {error}") from error
        except BaseException:
            self.close()
            raise
        finally:
            here.close()
        return done

    def settle(self) -> None:
        """Wait until nothing of the last run is left. Raises VerifierError."""
        if self._busy:
            self._busy = False
            if self._said(SLACK) is None:
                self.close()
                raise VerifierError("a sandbox did not end")

    def start(self) -> None:
        """Start if it does not run. Raises NoIsolation with the reasons where nothing works."""
        if self._process is not None:
            return
        reasons = []
        for kind in ORDER if self.isolation == "auto" else (self.isolation,):
            if self.kind in (None, kind):
                reason = self._start(kind)
                if not reason:
                    self.kind = kind
                    return
                reasons.append(f"{kind}: {reason}")
        raise NoIsolation(
            f"programs cannot be isolated here ({'; '.join(reasons)}); install bubblewrap, or ask for isolation=none "
            "to run programs you trust"
        )

    def close(self) -> None:
        """Kill everything in it at once and clear up; closing twice is fine, and it starts again when it is used."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._folder is not None:
            folder, self._folder = self._folder, None
            folder.cleanup()
        self._busy, self._rest = False, b""

    def interrupt(self) -> None:
        """Kill it from another thread: the one that uses it notices and clears up."""
        if (process := self._process) is not None:
            process.kill()

    def _begin(self, channel: socket.socket) -> None:
        """Hand the channel of a run over, to a sandbox that is free."""
        self.settle()
        self.start()
        assert self._link is not None
        base = self._folder.name if self._folder else "/tmp" if self.kind == "bubblewrap" else ""
        socket.send_fds(self._link, [f"{base}\n".encode()], [channel.fileno()])
        self._busy = True

    def _test(self, channel: socket.socket, test: bytes) -> Ran:
        wire.send(channel.fileno(), {}, test)
        poll = select.poll()
        poll.register(channel, select.POLLIN | select.POLLHUP)
        if not poll.poll(1000 * (CROWD * self.limits.cpu + self.limits.patience + SLACK)):
            self.close()
            return Ran("timeout", seconds=self.limits.cpu, note="the supervisor did not answer in time")
        message = wire.receive(channel.fileno(), self.limits.output + 1)
        if message is None:
            self.close()
            return Ran("error", note="the sandbox ended")
        return _ran(message[0], message[1], self.limits)

    def _start(self, kind: Isolation) -> str:
        """Start with walls of this kind; why not, or ""."""
        command = [sys.executable, "-P", "-s", "-m", "verifiers.grade.code.zygote"]
        inner = "limits" if kind == "bubblewrap" else kind
        if kind == "bubblewrap":
            found = shutil.which("bwrap")
            if not found:
                return "bwrap is not installed"
            command = [found, *_bubblewrap(), *command]
        self._link, there = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*command, str(there.fileno()), inner],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=ENVIRONMENT, pass_fds=[there.fileno()], start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as error:
            return str(error)
        finally:
            there.close()
        said = self._said(START_LIMIT)
        if said is not None and "map" in said:
            try:
                isolate.map_users(said["map"])
                self._link.sendall(b"m")
            except OSError as error:
                said = {"failed": str(error)}
            else:
                said = self._said(START_LIMIT)
        if said is None or "ready" not in said:
            self.close()
            return (said or {}).get("failed", "it did not start")
        if kind in ("limits", "none"):
            self._folder = tempfile.TemporaryDirectory(prefix="treewise-", ignore_cleanup_errors=True)
        return ""

    def _said(self, patience: float) -> dict[str, Any] | None:
        """The next thing the zygote says; None where it ends or says nothing for `patience` seconds."""
        assert self._link is not None
        until = time.monotonic() + patience
        poll = select.poll()
        poll.register(self._link, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                return None
            with contextlib.suppress(ConnectionError):
                if part := self._link.recv(4096):
                    self._rest += part
                    continue
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


def _bubblewrap() -> list[str]:
    """Arguments of bwrap: the same root as `isolate.leave` makes, and our own source to start from."""
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    for path in [*isolate.readable(), str(ROOT)]:
        link = os.path.islink(path)
        arguments += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
    prefix = os.path.abspath(sys.prefix)
    if prefix != os.path.realpath(prefix):
        arguments += ["--ro-bind", prefix, prefix]
    return [*arguments, "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--remount-ro", "/", "--"]


def _ran(head: dict[str, Any], output: bytes, limits: Limits) -> Ran:
    """What a supervisor's report means."""
    seconds, broken, code = head["seconds"], head["broken"], head["code"]
    last = (head["error"].strip().splitlines() or [""])[-1][:300]
    try:
        result = json.loads(head["result"]) if head["result"] else {}
    except (ValueError, RecursionError):
        result = {}
    result = result if isinstance(result, dict) else {}
    if broken in ("cpu", "wall") or code == -signal.SIGXCPU:
        over = f"{limits.patience:g} s of waiting" if broken == "wall" else f"{limits.cpu:g} s of processor time"
        return Ran("timeout", output, seconds=seconds, note=f"over {over}")
    if broken == "memory" or result.get("raised") == "MemoryError" or last.startswith("MemoryError"):
        return Ran("memory", output, seconds=seconds, note=f"over {limits.memory >> 20} MiB of memory")
    if broken:
        return Ran("error", output, seconds=seconds, note=f"over the limit of {broken}")
    if code:
        what = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return Ran("error", output, seconds=seconds, note=last or what)
    if "raised" in result:
        return Ran("error", output, seconds=seconds, note=f"{result['raised']}: {result.get('note', '')}")
    return Ran("done", output, result.get("value", NOTHING), seconds, str(result.get("note", "")))
