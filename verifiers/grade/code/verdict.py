"""The verdict on a program: its tests run in a pool, what it gave compared with what was expected, out of its reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from search.errors import ConfigError
from verifiers.grade.code import wire
from verifiers.grade.code.compare import Compare, arguments, expected_value
from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import NOTHING, Program, Ran

Kind = Literal["right", "wrong", "error", "timeout", "memory", "refused"]
Stop = Literal["never", "failure"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests say of a program.

    Attributes:
        kind: "right" when every test passed; else that of the first test that did not. "refused": nothing was run,
            because programs cannot be isolated here, or because there are no tests.
        passed, total: tests.
        seconds: processor time of all tests.
        tests: one verdict per test that was run, in order; the others are left out.
        note: of the first test that did not pass, for people.
    """

    kind: Kind
    passed: int
    total: int
    seconds: float = 0.0
    tests: tuple[Kind, ...] = ()
    note: str = ""

    @property
    def fraction(self) -> float:
        """Of all tests, those that passed, in [0, 1]; 0 without tests."""
        return self.passed / self.total if self.total else 0.0


@dataclass
class _Case:
    """A test made ready: what goes in, and how what comes out is judged."""

    given: bytes
    expected: Any = None


@dataclass
class Trial:
    """One program on its tests.

    Args:
        program: what is run.
        tests: for stdin and call, mappings {"input", "output"}; for check, texts.
        compare: the rules.
        stop: after which test to stop: "never", or after the first "failure".
        timeouts: tests that may run into a limit of time; after so many the rest is not run and counts as not passed.

    Raises:
        ConfigError: a test is malformed; the message names it.
    """

    program: Program
    tests: Sequence[Any]
    compare: Compare = field(default_factory=Compare)
    stop: Stop = "never"
    timeouts: int = 3

    def __post_init__(self) -> None:
        if self.stop not in ("never", "failure"):
            raise ConfigError("stop", self.stop, "give never or failure")
        self._cases = [self._case(number, test) for number, test in enumerate(self.tests)]
        self._kinds: list[Kind] = []

    def start(self, pool: Pool) -> Future[list[Ran]]:
        """Queue it; `verdict` reads what its future gives."""
        return pool.submit(self.program, [case.given for case in self._cases], self._go_on)

    async def run(self, pool: Pool) -> Verdict:
        """Run it and wait without blocking the event loop."""
        if not self._cases:
            return self.verdict([])
        done: list[Ran] = await asyncio.wrap_future(self.start(pool))
        return self.verdict(done)

    def verdict(self, done: Sequence[Ran]) -> Verdict:
        """What a run says."""
        if not self._cases:
            return Verdict("refused", 0, 0, note="no tests")
        kinds = [*self._kinds, *(self._kind(i, done[i]) for i in range(len(self._kinds), len(done)))]
        failed = next((i for i, kind in enumerate(kinds) if kind != "right"), None)
        passed = kinds.count("right")
        seconds = sum(ran.seconds for ran in done)
        if failed is None:
            return Verdict("right", passed, len(self._cases), seconds, tuple(kinds))
        note = f"test {failed + 1}: {done[failed].note}" if done[failed].note else f"test {failed + 1}"
        return Verdict(kinds[failed], passed, len(self._cases), seconds, tuple(kinds), note)

    def _go_on(self, place: int, ran: Ran) -> bool:
        self._kinds.append(self._kind(place, ran))
        failed = self.stop == "failure" and self._kinds[-1] != "right"
        return not failed and self._kinds.count("timeout") < self.timeouts

    def _kind(self, place: int, ran: Ran) -> Kind:
        if ran.end != "done":
            return ran.end
        expected, mode = self._cases[place].expected, self.program.mode
        if mode == "stdin":
            right = self.compare.texts(expected, ran.output.decode(errors="replace"))
        elif ran.value is NOTHING:
            return "error"  # it ended by itself before its function had returned
        elif mode == "check":
            right = ran.value is True
        else:
            try:
                right = self.compare.values(expected, wire.decode(ran.value))
            except (ValueError, TypeError, RecursionError):
                right = False
        return "right" if right else "wrong"

    def _case(self, number: int, test: Any) -> _Case:
        if self.program.mode == "check":
            if not isinstance(test, str):
                raise ConfigError(f"tests[{number}]", test, "give source text")
            return _Case(test.encode())
        if not isinstance(test, Mapping) or not {"input", "output"} <= test.keys():
            raise ConfigError(f"tests[{number}]", str(test)[:80], 'give an object with "input" and "output"')
        given, expected = test["input"], test["output"]
        if self.program.mode == "stdin":
            if not isinstance(given, str) or not isinstance(expected, str):
                raise ConfigError(f"tests[{number}]", str(test)[:80], "without fn_name input and output are texts")
            return _Case(given.encode(errors="surrogatepass"), expected)
        try:
            return _Case(json.dumps(arguments(given)).encode(), expected_value(expected))
        except ValueError as error:
            raise ConfigError(f"tests[{number}].input", str(given)[:80], f"give arguments as JSON ({error})") from None
