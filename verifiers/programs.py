"""A verifier of programs: the share of an item's public tests that a complete answer passes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search.errors import ConfigError, VerifierError
from search.types import Cost, Finish, Prefix, Verdict
from verifiers.grade.code.compare import Compare
from verifiers.grade.code.extract import extract
from verifiers.grade.code.pool import Pool, shared
from verifiers.grade.code.program import Isolation, Limits, Program
from verifiers.grade.code.verdict import Trial


@dataclass(frozen=True)
class PublicTests:
    """Runs the program in a complete answer on the public tests of its item; never sees the hidden ones.

    An item says in its field "public" how it is tested: a mapping with `mode`, `name`, `header` (source put before the
    program), `support` and `tests`, see `verifiers.grade.code`. A run of all tests counts as one pass.

    Attributes:
        open: the value of a prefix that is not complete, and of an item without public tests; null refuses both.
        isolation: see `verifiers.grade.code.sandbox`; what cannot be isolated is not run, and that is an error.
        cpu: seconds of processor time per test.
        memory: bytes.
        tolerance: of decimal fractions.
    """

    open: float | None = 0.5
    isolation: Isolation = "auto"
    cpu: float = 6.0
    memory: int = 2 << 30
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.open is not None and not 0 <= self.open <= 1:
            raise ConfigError("open", self.open, "give a number in [0, 1], or null to refuse open prefixes")
        Limits(cpu=self.cpu, memory=self.memory)
        Compare(self.tolerance)

    @property
    def fingerprint(self) -> str:
        return f"public_tests:{self!r}"

    @property
    def pool(self) -> Pool:
        """Where programs run."""
        return shared(self.isolation, Limits(cpu=self.cpu, memory=self.memory))

    def bind(self, item: Any) -> BoundTests:
        """The verifier for one item. Raises ConfigError for one that is no programming problem."""
        public = item.fields.get("public")
        if public is None:
            raise ConfigError("verifier", "public_tests", f"item {item.id} has no tests; take a task of programs")
        if not public["tests"] and self.open is None:
            raise ConfigError(
                "open", None, f"item {item.id} has no public tests; give a value in [0, 1] for such items"
            )
        return BoundTests(self, public)

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """Refused but for an empty batch: tests belong to an item, see `bind`."""
        if prefixes:
            raise ConfigError("verifier", "public_tests", "it judges the answers of a task of programs only")
        return []


@dataclass(frozen=True)
class BoundTests:
    """`PublicTests` for one item."""

    settings: PublicTests
    public: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return self.settings.fingerprint

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """The share of tests passed, in [0, 1]; of the same program the same."""
        return list(await asyncio.gather(*map(self._judge, prefixes)))

    async def _judge(self, prefix: Prefix) -> Verdict:
        complete = bool(prefix.steps) and prefix.steps[-1].finish is not Finish.STEP
        if not complete or not self.public["tests"]:
            if self.settings.open is None:
                raise VerifierError(
                    "public tests judge complete programs only; set verifier.open to a value for others"
                )
            return Verdict(self.settings.open, cost=Cost())
        return Verdict(await passed(prefix.text, self.public, self.settings), cost=Cost(passes=1))


async def passed(text: str, public: dict[str, Any], settings: PublicTests) -> float:
    """The share of public tests that the program in `text` passes. Raises VerifierError where it cannot be isolated."""
    code = extract(text)
    if code is None:
        return 0.0
    program = Program(public["header"] + code, public["mode"], public["name"], support=public["support"])
    verdict = await Trial(program, public["tests"], Compare(settings.tolerance)).run(settings.pool)
    if verdict.kind == "refused":
        raise VerifierError(verdict.note)
    return verdict.fraction
