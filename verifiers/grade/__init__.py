"""Graders of final answers: exact checkers, mathematical equality, and the process pool it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Grade", "Mark", "mark"]

Mark = Literal["right", "wrong", "timeout", "unparsable", "unknown"]


@dataclass(frozen=True, slots=True)
class Grade:
    """What a grader says of one answer.

    Attributes:
        verdict: "right"; "wrong"; "timeout": no verdict within the limits of time and memory, which is not "wrong";
            "unparsable": the text holds no answer, or none that can be read; "unknown": there is no reference answer
            to compare with.
        answer: the answer found in the text, as written there; None where there is none.
        seconds: processor time of the comparison; 0 where none was needed.
        reason: one short clause for people; "" where the verdict says it all.
    """

    verdict: Mark
    answer: str | None
    seconds: float = 0.0
    reason: str = ""

    @property
    def right(self) -> bool:
        """Whether the answer is right; a timeout counts as not right, and is told apart by `verdict`."""
        return self.verdict == "right"


def mark(right: bool) -> Mark:
    """The verdict of a checker that always has one."""
    return "right" if right else "wrong"
