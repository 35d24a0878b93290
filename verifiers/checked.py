"""A verifier whose complete answers are judged by an exact checker, where the problem has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.errors import VerifierError
from search.ports import Binds, Verifier
from search.types import Cost, Finish, Prefix, Verdict
from verifiers.combine import described
from verifiers.grade import countdown
from verifiers.opens import Opens

Check = Callable[[str], bool]
Checker = Callable[[Any], Check | None]


@dataclass(frozen=True)
class Checked(Opens):
    """Complete answers get 1 or 0 from the item's exact checker, everything else is left to another verifier.

    Only for checkers that need no reference answer: whether an expression uses the given numbers and makes 24 can be
    seen from the problem. Items without such a checker are left to the other verifier altogether. A check counts as
    one pass, like any other reading of a sequence by a verifier, though no model runs.

    Attributes:
        verifier: judges prefixes that are not complete answers; may itself need the item (`search.ports.Binds`).
        checkers: each makes a check from an item, or gives None for an item it does not know; the first one counts.
    """

    verifier: Verifier | Binds
    checkers: tuple[Checker, ...] = (countdown.checker,)

    def _parts(self) -> tuple[object, ...]:
        return (self.verifier,)

    @property
    def fingerprint(self) -> str:
        return f"checked:{described(self.verifier)}"

    def bind(self, item: Any) -> Verifier:
        """The verifier for one item."""
        inner = self.verifier.bind(item) if isinstance(self.verifier, Binds) else self.verifier
        check = next((check for checker in self.checkers if (check := checker(item)) is not None), None)
        return _Checked(inner, check, self.fingerprint)


@dataclass(frozen=True)
class _Checked:
    """`Checked` for one item."""

    verifier: Verifier
    check: Check | None
    fingerprint: str

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        open_ones = [prefix for prefix in prefixes if not self._checks(prefix)]
        verdicts = await self.verifier.score(open_ones) if open_ones else []
        if len(verdicts) != len(open_ones):
            raise VerifierError(f"{len(verdicts)} verdicts came back for {len(open_ones)} prefixes")
        rest = iter(verdicts)
        return [self._verdict(prefix) if self._checks(prefix) else next(rest) for prefix in prefixes]

    def _checks(self, prefix: Prefix) -> bool:
        return self.check is not None and bool(prefix.reply) and prefix.reply[-1].finish in (Finish.END, Finish.EMPTY)

    def _verdict(self, prefix: Prefix) -> Verdict:
        assert self.check is not None
        return Verdict(float(self.check(prefix.text)), cost=Cost(passes=1))
