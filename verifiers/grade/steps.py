"""Exact checks of single reasoning steps in the reference domain; a step is one line.

Countdown: `13-9=4 (left: 4 4 10)` takes two of the numbers left and puts one back. A state is the sorted tuple of the
numbers left. Arithmetic: `34*6=204, 24+(204-18)` carries out one operation of the expression and writes the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

from verifiers.grade.expression import NOTHING, Expression, ExpressionError, parse

State = tuple[Fraction, ...]  # the numbers left, ascending

MOST_NUMBERS = 6  # of a state whose reach is searched; six numbers have some millions of expressions
MOVE = re.compile(r"(.+?)=([^=()]+?)\(\s*left\s*:([^()]*)\)\s*\.?", re.IGNORECASE)
REWRITE = re.compile(r"([^=]+)=([^=,]+?)(?:,([^=]+))?")


class StepError(ValueError):
    """A step that is not valid; `str` says why in a few words."""


class Move(NamedTuple):
    """A valid step of countdown and the state after it."""

    op: str
    left: Fraction
    right: Fraction
    value: Fraction
    state: State


def state(numbers: Sequence[int | Fraction]) -> State:
    """The state with these numbers left."""
    return tuple(sorted(map(Fraction, numbers)))


def _number(text: str) -> Fraction:
    """A whole number or a fraction, with a sign. Raises ExpressionError."""
    expression = parse(text)
    if expression.operations() > 1 or (expression.operations() and expression.op != "/"):
        raise ExpressionError(f"{text.strip()[:20]!r} is not a number")
    return expression.value


def move(line: str, before: State) -> Move:
    """Check a step of countdown from the state `before`. Raises StepError.

    Valid: one operation on two of the numbers left, its result right, and the numbers listed are those left after it,
    in any order. Whether it leads anywhere is another question: see `reachable`.
    """
    match = MOVE.fullmatch(line.strip())
    if match is None:
        raise StepError("not of the form a op b=c (left: ...)")
    try:
        operation = parse(match[1])
        claimed = _number(match[2])
        listed = state([_number(entry) for entry in re.split(r"[\s,]+", match[3].strip())])
    except ExpressionError as error:
        raise StepError(str(error)) from None
    left, right = _operands(operation)
    if operation.value != claimed:
        raise StepError(f"{match[1].strip()} is {operation.value}, not {claimed}")
    remaining = Counter(before)
    for operand in (left, right):
        if not remaining[operand]:
            raise StepError(f"{operand} is not among the numbers left")
        remaining[operand] -= 1
    after = tuple(sorted([*remaining.elements(), claimed]))
    if listed != after:
        raise StepError(f"left are {' '.join(map(str, after))}, not {' '.join(map(str, listed))}")
    return Move(operation.op, left, right, claimed, after)


def _operands(operation: Expression) -> tuple[Fraction, Fraction]:
    """The two numbers of a single operation. Raises StepError.

    A fraction among them has to be in brackets, or the line is read as two operations.
    """
    operands = operation.operands()
    if len(operands) != 2 or NOTHING in operands:
        raise StepError("one operation on two numbers expected")
    for operand in operands:
        inner = operand.operands()
        if (
            operand.operations() > 1
            or (operand.operations() and operand.op != "/")
            or any(i.operations() for i in inner)
        ):
            raise StepError("one operation on two numbers expected")
    return operands[0].value, operands[1].value


@lru_cache(maxsize=1 << 18)
def reachable(numbers: State, target: Fraction) -> bool:
    """Whether an expression of + - * / that uses every number once has exactly the target's value.

    Raises ValueError for more than six numbers.
    """
    if len(numbers) > MOST_NUMBERS:
        raise ValueError(f"numbers={len(numbers)} is too many to search; give at most {MOST_NUMBERS}")
    if len(numbers) < 2:
        return numbers == (target,)
    return any(reachable(after, target) for after in _successors(numbers))


def _successors(numbers: State) -> set[State]:
    """Every state that one operation leads to."""
    after: set[State] = set()
    for i, j in combinations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        rest = [number for at, number in enumerate(numbers) if at not in (i, j)]
        values = {a + b, a - b, b - a, a * b}
        values |= {a / b} if b else set()
        values |= {b / a} if a else set()
        after.update(tuple(sorted([*rest, value])) for value in values)
    return after


def rewrite(line: str, before: Expression) -> Expression:
    """Check a step of arithmetic from the expression `before`; the expression after it. Raises StepError.

    Valid: one operation on two numbers with its right result, and a rest with the same value as `before` and one
    operation fewer; any order of work will do. The last operation leaves no rest: its result is the rest.
    """
    match = REWRITE.fullmatch(line.strip().rstrip("."))
    if match is None:
        raise StepError("not of the form a op b=c, rest")
    try:
        operation = parse(match[1])
        claimed = _number(match[2])
        rest = parse(match[3]) if match[3] else Expression(claimed)
    except ExpressionError as error:
        raise StepError(str(error)) from None
    _operands(operation)
    if operation.value != claimed:
        raise StepError(f"{match[1].strip()} is {operation.value}, not {claimed}")
    if rest.value != before.value:
        raise StepError(f"the rest is {rest.value}, not {before.value}")
    if rest.operations() != before.operations() - 1:
        raise StepError("the rest is not one operation shorter")
    return rest
