"""The process that sandboxes are forked from: a Python that has started, and has shut itself off, once for many runs.

Started as a program of its own by `verifiers.grade.code.sandbox`, it shares nothing with its parent but a socket, and
ends with it. For each run it gets a channel, forks a supervisor for it (`verifiers.grade.code.supervise`) and tells
when nothing of the run is left. It never runs a program itself.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from verifiers.grade.code import filters, harness, isolate, kernel, processes, supervise


def main() -> None:
    """Serve the socket whose number is the first argument; the second one: "namespaces", "limits" or "none"."""
    link, kind = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    users = 1
    try:
        if kind == "namespaces":
            isolate.leave(lambda: _ask(link))
            users = int(Path(f"{isolate.OLD_PROC}/self/uid_map").read_text().split()[2])
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # forgotten with the change of user
        elif kind == "limits" and not filters.supported():
            raise OSError(f"no table of system calls for {kernel.MACHINE}")
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        if kind != "none":
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    except OSError as error:
        _say(link, {"failed": str(error)})
        return
    harness.warm()
    gc.collect()
    gc.freeze()
    _say(link, {"ready": users})
    while (run := _next(link)) is not None:
        _serve(link, *run, kind=kind, users=users)


def _ask(link: socket.socket) -> None:
    _say(link, {"map": os.getpid()})
    if not link.recv(1):
        raise OSError("nobody mapped our users")


def _say(link: socket.socket, message: dict[str, Any]) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


def _next(link: socket.socket) -> tuple[int, str] | None:
    """The channel of the next run and the folder for its scratch folders ("" for one of its own)."""
    message, channels, _, _ = socket.recv_fds(link, 4096, 1)
    return (channels[0], message.decode().strip()) if message and channels else None


def _serve(link: socket.socket, channel: int, base: str, *, kind: str, users: int) -> None:
    """One run, from its start until nothing of it is left; anything said meanwhile ends it."""
    first = os.fork()
    if first == 0:
        _first(link, channel, base, kind, users)
    os.close(channel)
    end = os.pidfd_open(first)
    watch = select.poll()
    watch.register(end, select.POLLIN)
    watch.register(link, select.POLLIN)
    ready = {fd for fd, _ in watch.poll()}
    if end not in ready:
        if not link.recv(1):
            sys.exit()  # our parent is gone; what we started goes with us
        processes.end_all(first)
    os.close(end)
    while processes.reap():
        processes.end_all(first)
    _say(link, {"ended": True})


def _first(link: socket.socket, channel: int, base: str, kind: str, users: int) -> None:
    """The first process of a run: with namespaces, its child is the first of a process namespace."""
    try:
        link.close()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if kind == "namespaces":
            kernel.unshare(kernel.NEW_PID | kernel.NEW_MOUNT | kernel.NEW_IPC)
            if inner := os.fork():
                os.close(channel)
                os.waitpid(inner, 0)
                os._exit(0)
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            isolate.enter()
        else:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        supervise.Supervisor(channel, base, kind, users).serve()
    except BrokenPipeError:
        pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
