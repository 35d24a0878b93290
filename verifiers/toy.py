"""A toy verifier that knows the word; the oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.types import Cost, Finish, Prefix, Verdict


@dataclass(frozen=True)
class Hidden:
    """Value: the share of letters that are right so far; of a complete word, of the longer of the two words.

    Attributes:
        word: the right answer to any question.
        strict: one wrong letter makes the value 0.
    """

    word: str
    strict: bool = False

    @property
    def fingerprint(self) -> str:
        return repr(self)

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return [self._verdict(prefix) for prefix in prefixes]

    def _verdict(self, prefix: Prefix) -> Verdict:
        values, text = [], ""
        for step in prefix.reply:
            text += step.text if step.by == "policy" else ""
            values.append(self._value(text, complete=step.finish in (Finish.END, Finish.EMPTY)))
        return Verdict(values[-1] if values else 1.0, tuple(values), Cost(passes=1, read=len(prefix.tokens)))

    def _value(self, text: str, complete: bool) -> float:
        right = sum(a == b for a, b in zip(text, self.word, strict=False))
        of = max(len(text), len(self.word)) if complete else len(text)
        if self.strict and right < of:
            return 0.0
        return right / of if of else 1.0
