"""Countdown and the game of 24: does an expression use exactly the given numbers, and does it hit the target.

Any valid expression of + - * / counts, fractions and negative values on the way included. No reference answer is
needed, so the checker may judge answers during a search.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from verifiers.grade import Grade, mark
from verifiers.grade.expression import Expression, ExpressionError, canonical, parse
from verifiers.grade.extract import extract
from verifiers.grade.units import unwrap

QUESTION = re.compile(r"\s*Make\s+(-?\d+)\s+from\s+(\d+(?:[\s,]+\d+)*)\s*\.?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Check:
    """What an exact checker says.

    Attributes:
        right: the expression is valid, uses exactly the given numbers and has the target's value.
        reason: why not; "" when right.
        answer: the expression as written; None where the text has none.
        value: of the expression; None where it has none.
    """

    right: bool
    reason: str = ""
    answer: str | None = None
    value: Fraction | None = None

    def __bool__(self) -> bool:
        return self.right


def check(answer: str, numbers: Sequence[int], target: int) -> Check:
    """Judge a bare expression; `= 24` behind it is allowed and not judged, whatever the number.

    >>> check("(13-9)*(10-4)", (4, 9, 10, 13), 24).right
    True
    >>> check("4*9-10-2", (4, 9, 10, 13), 24).reason
    'uses 2, which is not among the numbers left'
    """
    try:
        expression = read(answer)
    except ExpressionError as error:
        return Check(False, f"no valid expression: {error}", answer)
    left = Counter(numbers)
    for number in expression.numbers():
        if not left[number]:
            return Check(False, f"uses {number}, which is not among the numbers left", answer, expression.value)
        left[number] -= 1
    if unused := sorted(left.elements()):
        return Check(False, f"does not use {' '.join(map(str, unused))}", answer, expression.value)
    if expression.value != target:
        return Check(False, f"makes {expression.value}, not {target}", answer, expression.value)
    return Check(True, "", answer, expression.value)


def check_text(text: str, numbers: Sequence[int], target: int) -> Check:
    """Judge the expression in a whole completion: the last box, else the last `answer: ...`."""
    answer = find(text)
    return check(answer, numbers, target) if answer is not None else Check(False, "no answer in the text")


def grade(text: str, numbers: Sequence[int], target: int) -> Grade:
    """The same as a Grade; "unparsable" where the text holds no expression."""
    result = check_text(text, numbers, target)
    return Grade(mark(result.right) if result.value is not None else "unparsable", result.answer, reason=result.reason)


def find(text: str) -> str | None:
    """The expression in a completion, as written; None where none is marked as the answer."""
    found = extract(text)
    return found.text if found else None


def read(answer: str) -> Expression:
    """Parse an answer; `= number` behind it is left out: what counts is the expression. Raises ExpressionError."""
    sides = unwrap(answer).strip().rstrip(".").split("=")
    if len(sides) > 2:
        raise ExpressionError("more than one =")
    if len(sides) == 2 and parse(sides[1]).operations():
        raise ExpressionError("an equation")
    return parse(sides[0])


def classes(texts: Sequence[str]) -> list[int | None]:
    """Equality classes for votes: expressions that agree up to order, brackets and idle signs; None without one.

    Neither the target nor the numbers are looked at, so a vote among wrong expressions is a fair vote.
    """
    labels: dict[str, int] = {}
    result: list[int | None] = []
    for text in texts:
        answer = find(text)
        try:
            form = canonical(read(answer)) if answer is not None else None
        except ExpressionError:
            form = None
        result.append(None if form is None else labels.setdefault(form, len(labels)))
    return result


def read_question(question: str) -> tuple[tuple[int, ...], int] | None:
    """Numbers and target of `Make 24 from 4 9 10 13.`; None for any other question."""
    match = QUESTION.fullmatch(question)
    return (tuple(map(int, re.findall(r"\d+", match[2]))), int(match[1])) if match else None


def puzzle(item: Any) -> tuple[tuple[int, ...], int] | None:
    """Numbers and target of an item: its fields of these names, else what its question says; None if it has none."""
    fields = item.fields
    if "numbers" in fields and "target" in fields:
        return tuple(map(int, fields["numbers"])), int(fields["target"])
    return read_question(item.question)


def checker(item: Any) -> Callable[[str], bool] | None:
    """The exact check of a countdown item's answers; None for any other item."""
    found = puzzle(item)
    return None if found is None else lambda text: check_text(text, *found).right
