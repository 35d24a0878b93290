"""What is run, under which limits, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from search.errors import ConfigError

Isolation = Literal["auto", "namespaces", "bubblewrap", "limits", "none"]
End = Literal["done", "error", "timeout", "memory", "refused"]
NOTHING: Any = object()  # the value of a call that returned none


@dataclass(frozen=True, slots=True)
class Limits:
    """What one test of a program may use.

    Attributes:
        cpu: seconds of processor time, all its processes together.
        wall: seconds in which it neither computes nor queues for a processor, so that a busy machine costs a program
            nothing; 0 takes as many as `cpu`.
        memory: bytes: of the address space of each process, and resident in all together.
        processes: processes and threads at once.
        file: bytes of one file.
        scratch: bytes of all files in the scratch folder together.
        output: bytes on standard output.
    """

    cpu: float = 6.0
    wall: float = 0.0
    memory: int = 2 << 30
    processes: int = 32
    file: int = 32 << 20
    scratch: int = 64 << 20
    output: int = 16 << 20

    def __post_init__(self) -> None:
        if not 0 < self.cpu <= 3600:
            raise ConfigError("cpu", self.cpu, "give a number of seconds in (0, 3600]")
        if not 0 <= self.wall <= 36000:
            raise ConfigError("wall", self.wall, "give 0 (as cpu) or a number of seconds up to 36000")
        if self.memory < 1 << 26:
            raise ConfigError("memory", self.memory, "give at least 67108864 bytes (64 MiB)")
        for name in ("processes", "file", "scratch", "output"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "give a positive number")

    @property
    def patience(self) -> float:
        """Seconds it may wait, whichever way they were given."""
        return self.wall or self.cpu


@dataclass(frozen=True, slots=True)
class Program:
    """A Python program and how it is run.

    Attributes:
        code: its source.
        mode: "stdin": run as `__main__`, text in, text out; "call": the function `name`, of the class `Solution` where
            there is one, is called with arguments; "check": each test is Python source that asserts something about
            the function `name`. That source runs in another process, where `name` is a stand-in, so what a program
            does to its own process cannot make an assertion hold.
        name: of the function; "" for stdin.
        prelude: whether the usual imports of programming contests are made first (`verifiers.grade.code.harness`).
        support: source that checks may use besides the program.
    """

    code: str
    mode: Literal["stdin", "call", "check"] = "stdin"
    name: str = ""
    prelude: bool = True
    support: str = ""

    def __post_init__(self) -> None:
        if (self.mode == "stdin") == bool(self.name):
            raise ConfigError("name", self.name, "name a function for call and check, and none for stdin")


@dataclass(frozen=True, slots=True)
class Ran:
    """How one test ended, before anything is compared.

    Attributes:
        end: "done"; "error": an exception, a signal or too much output; "timeout"; "memory"; "refused": nothing was
            run, for lack of isolation.
        output: what the program wrote to standard output.
        value: what the function returned, or whether the checks held; NOTHING without.
        seconds: processor time.
        note: what happened, for people; "" when done.
    """

    end: End
    output: bytes = b""
    value: Any = NOTHING
    seconds: float = 0.0
    note: str = ""
