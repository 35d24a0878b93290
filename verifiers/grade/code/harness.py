"""What runs behind the walls: a program as `__main__`, a call of its function, or checks about it from next door.

Everything here may be overwritten by the program that it runs; nothing it reports is taken for more than the answer of
that program.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib
import io
import json
import os
import random
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable
from typing import Any

from verifiers.grade.code import wire

# what contest sites and the graders of published benchmarks import for everybody
STARS = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json", "builtins", "typing",
)  # fmt: skip
MODULES = (*(name for name in STARS if name != "builtins"), "queue", "threading", "decimal", "fractions", "time", "os")
RECURSION = 50_000  # frames; programs that need more say so themselves
RESULT = 3
PRELUDE: dict[str, Any] = {}
LARGEST_MESSAGE = 16 << 20


def warm() -> None:
    """Import what programs import most, once for all of them."""
    for name in STARS:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
        PRELUDE.update({n: getattr(module, n) for n in public})
    for name in MODULES:
        PRELUDE[name] = importlib.import_module(name)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line between a program and the checks about it."""
    return socket.socketpair()


def settle(scratch: str) -> None:
    """A Python as new: its own standard files, dice that always roll the same, nothing of ours in its path."""
    gc.unfreeze()
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="utf-8")
    raw = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
    os.environ.update(HOME=scratch, TMPDIR=scratch)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["program.py"]
    sys.path[:] = [path for path in sys.path if "site-packages" in path or path.startswith(sys.base_prefix)]
    random.seed(0)


def run(job: dict[str, Any]) -> int:
    """Run the program, or call its function with the arguments on standard input; its exit status."""
    if job["mode"] == "call":
        return _guarded(lambda: _call(job))
    return _guarded(lambda: _load(job, "__main__"))


def _load(job: dict[str, Any], name: str) -> dict[str, Any]:
    """Execute the program as module `name`; its names."""
    module = types.ModuleType(name)
    names = module.__dict__
    if job["prelude"]:
        names.update(PRELUDE)
        sys.setrecursionlimit(RECURSION)
    names.update(__name__=name, __builtins__=builtins)
    sys.modules[name] = module
    exec(compile(job["code"], "program.py", "exec", dont_inherit=True), names)
    return names


def _function(names: dict[str, Any], name: str) -> Callable[..., Any]:
    owner = names.get("Solution")
    if isinstance(owner, type) and hasattr(owner, name):
        return getattr(owner(), name)
    if name not in names:
        raise NameError(f"the program defines no {name}")
    return names[name]


def _call(job: dict[str, Any]) -> None:
    arguments = json.loads(sys.stdin.buffer.read())
    # not `__main__`: what a program does when it is run as one is not asked for
    value = _function(_load(job, "solution"), job["name"])(*arguments)
    sys.setrecursionlimit(2000)  # of what is said about it, not of how it was found
    _say({"value": wire.encode(value, _listed)})


def _listed(value: Any) -> Any:
    """What is no plain value, but can be read like a list, as judges do."""
    if isinstance(value, (range, types.GeneratorType, map, filter, zip, type({}.keys()), type({}.values()))):
        return [wire.encode(item, _listed) for item in value]
    return {"other": type(value).__name__}


def _say(message: dict[str, Any], fd: int = RESULT) -> None:
    data = memoryview(json.dumps(message).encode())
    while data:
        data = data[os.write(fd, data) :]


def _guarded(work: Callable[[], Any]) -> int:
    """Do the work and end as a Python program does: its threads, its exit functions, its output; the exit status."""
    status = 0
    try:
        try:
            work()
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
    except SystemExit as end:
        status = _status(end)
    except MemoryError:
        status = 1
        _say({"raised": "MemoryError"})
    except BaseException:
        status = 1
        traceback.print_exc(limit=-5)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 120
    return status


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1


class Missing(Exception):
    """The program has no such name, or broke off."""


def play(job: dict[str, Any]) -> int:
    """Answer the calls of checks next door: names are looked up, functions called, what is not plain stays here."""
    line, kept = os.dup(3), []  # type: tuple[int, list[Any]]

    def keep(value: Any) -> Any:
        kept.append(value)
        return {"kept": len(kept) - 1}

    makers = {**wire.MAKERS, "kept": lambda place: kept[place]}

    def answer(request: Any) -> Any:
        kind, *rest = request
        if kind == "name":
            return keep(names[rest[0]]) if rest[0] in names else {"missing": rest[0]}
        target, arguments, fields = (wire.decode(part, makers) for part in rest)
        if kind == "call":
            return wire.encode(target(*arguments, **fields), keep)
        if kind == "get":
            return wire.encode(getattr(target, *arguments), keep)
        if kind == "set":
            setattr(target, *arguments)
            return None
        return [wire.encode(item, keep) for item in target]

    try:
        names = _load(job, "solution")
        wire.send(line, {"ready": True})
        while (message := wire.receive(line, LARGEST_MESSAGE)) is not None:
            try:
                reply = {"value": answer(message[0])}
            except MemoryError:
                reply = {"raised": "MemoryError", "text": ""}
            except BaseException as error:
                reply = {"raised": type(error).__name__, "text": str(error)[:500]}
            wire.send(line, reply)
    except MemoryError:
        wire.send(line, {"raised": "MemoryError", "text": ""})
    except BaseException as error:
        wire.send(line, {"raised": type(error).__name__, "text": str(error)[:500]})
    return 0


class Kept:
    """Something that stays in the program's process: it can be called, read and passed back, but not trusted."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, line: Line, place: int):
        object.__setattr__(self, "_line", line)
        object.__setattr__(self, "_place", place)

    def __call__(self, *arguments: Any, **fields: Any) -> Any:
        return self._line.ask("call", self, arguments, fields)

    def __getattr__(self, name: str) -> Any:
        return self._line.ask("get", self, (name,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        self._line.ask("set", self, (name, value), {})

    def __iter__(self) -> Any:
        return iter(self._line.ask("list", self, (), {}))

    def __bool__(self) -> bool:
        raise TypeError("the program's function returned an object, not a plain value")

    def __eq__(self, other: object) -> bool:
        return False


class Line:
    """The checks' end of the line to the program."""

    def __init__(self, fd: int):
        self.fd, self.makers = fd, {**wire.MAKERS, "kept": lambda place: Kept(self, place)}
        self.answer()  # the program has loaded

    def ask(self, kind: str, target: Any, arguments: Any, fields: dict[str, Any]) -> Any:
        """What came of an operation on something over there; what it raised is raised here."""
        parts = [self.encoded(part) for part in (target, tuple(arguments), fields)]
        wire.send(self.fd, [kind, *parts])
        return wire.decode(self.answer(), self.makers)

    def encoded(self, value: Any) -> Any:
        """A value as JSON data, what is over there by its place."""
        return wire.encode(value, lambda item: {"kept": item._place} if isinstance(item, Kept) else wire._refuse(item))

    def look_up(self, name: str) -> Any:
        """The program's object of that name; raises NameError."""
        wire.send(self.fd, ["name", name])
        found = self.answer()
        if "missing" in found:
            raise NameError(f"name {name!r} is not defined")
        return wire.decode(found, self.makers)

    def answer(self) -> Any:
        """The next answer; raises what the program raised, or Missing where it broke off."""
        message = wire.receive(self.fd, LARGEST_MESSAGE)
        if message is None:
            raise Missing("the program ended")
        head = message[0]
        if "raised" in head:
            kind = getattr(builtins, str(head["raised"]), None)
            known = isinstance(kind, type) and issubclass(kind, Exception) and kind is not AssertionError
            raise (kind if known and kind else Missing)(str(head.get("text")))
        return head.get("value")


class _Names(dict[str, Any]):
    """Names of the checks; what they do not define is the program's."""

    line: Line

    def __missing__(self, name: str) -> Any:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        self[name] = self.line.look_up(name)
        return self[name]


def judge(job: dict[str, Any]) -> int:
    """Run the checks on standard input about the program at the other end of file 3; says what came of them."""
    source = sys.stdin.buffer.read().decode()
    names = _Names(PRELUDE)
    names["__name__"] = "checks"
    try:
        names.line = Line(3)
        exec(compile(job["support"], "support.py", "exec", dont_inherit=True), names)
        names[job["name"]] = names.line.look_up(job["name"])
        exec(compile(source, "checks.py", "exec", dont_inherit=True), names)
    except AssertionError as error:
        _say({"value": False, "note": str(error)[:500]}, 4)
    except MemoryError:
        _say({"raised": "MemoryError"}, 4)
    except BaseException as error:
        _say({"raised": type(error).__name__, "note": str(error)[:500]}, 4)
    else:
        _say({"value": True}, 4)
    return 0
