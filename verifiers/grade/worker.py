"""The process that compares: one request a line in, one reply a line out, under limits the kernel enforces.

Started by `verifiers.grade.pool` as a program of its own, so it shares no thread, lock or heap with its parent.
It ends by itself when its input closes, so it never outlives an idle parent.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any


def resolve(target: str) -> Callable[..., Any]:
    """The function that "module:name" names."""
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def peak() -> int:
    """The largest address space this process ever had, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmPeak:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:  # not Linux
        pass
    return 0


def reply(target: str, arguments: list[Any], cpu: float) -> str:
    """Run one request; the kernel ends the process when it has used `cpu` seconds of processor time."""
    start = time.process_time()
    # SIGPROF keeps its default action: it ends the process even inside C code, and code under test that catches
    # every exception cannot swallow it. The timer counts processor time, so a busy machine does not shorten it.
    signal.setitimer(signal.ITIMER_PROF, cpu)
    try:
        answer = f'"value": {json.dumps(resolve(target)(*arguments))}'
    except MemoryError:
        answer = '"memory": true'
    except Exception as error:  # whatever the request raises is its result, told to the parent as text
        answer = f'"error": {json.dumps(f"{type(error).__name__}: {error}"[:500])}'
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return f'{{{answer}, "seconds": {time.process_time() - start:.6f}, "peak": {peak()}}}'


def main() -> None:
    """Serve the requests on standard input. The arguments: a JSON object with `memory` (bytes) and `warm` (target)."""
    options = json.loads(sys.argv[1])
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library that prints must not break the protocol
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (options["memory"], options["memory"]))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    if options["warm"]:
        resolve(options["warm"])()  # imports and caches are paid for here, so that they never count as work
    print(json.dumps({"ready": True}), file=channel, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(reply(request["target"], request["arguments"], request["cpu"]), file=channel, flush=True)


if __name__ == "__main__":
    main()
