"""Arithmetic problems: evaluate an expression with one product among sums and differences, one operation a step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

LARGEST = 9999  # of any value on the way; products take factors below 100


class Operation(NamedTuple):
    """An inner node: `left op right`."""

    op: str  # one of + - *
    left: Expression
    right: Expression


Expression = int | Operation


def value(e: Expression) -> int:
    """The value of an expression."""
    return e if isinstance(e, int) else apply(e.op, value(e.left), value(e.right))


def apply(op: str, a: int, b: int) -> int:
    """a op b."""
    return a + b if op == "+" else a - b if op == "-" else a * b


def size(e: Expression) -> int:
    """The number of operations left."""
    return 0 if isinstance(e, int) else 1 + size(e.left) + size(e.right)


def text(e: Expression) -> str:
    """The expression with no more parentheses than its value needs."""
    if isinstance(e, int):
        return str(e)
    left, right = text(e.left), text(e.right)
    if e.op == "*" and isinstance(e.left, Operation) and e.left.op != "*":
        left = f"({left})"
    if isinstance(e.right, Operation) and (e.op == "*" or e.right.op != "*"):
        right = f"({right})"
    return f"{left}{e.op}{right}"


@dataclass(frozen=True)
class Problem:
    """An expression to be evaluated."""

    expression: Expression

    @cached_property
    def key(self) -> str:
        """What makes two problems the same."""
        return text(self.expression)

    @property
    def question(self) -> str:
        return f"Compute {self.key}."

    @property
    def answer(self) -> int:
        return value(self.expression)


def held_out(problem: Problem) -> bool:
    """Whether a problem belongs to the test split: a tenth of all keys, chosen by a hash of the key."""
    return blake2b(problem.key.encode(), digest_size=4).digest()[0] % 10 == 0


def reduce_first(e: Expression) -> tuple[tuple[int, str, int], Callable[[int], Expression]]:
    """The leftmost operation whose operands are numbers, and what is left of `e` once its value is put in its place."""
    assert isinstance(e, Operation)
    if isinstance(e.left, Operation):
        done, rest = reduce_first(e.left)
        return done, lambda v: Operation(e.op, rest(v), e.right)
    if isinstance(e.right, Operation):
        done, rest = reduce_first(e.right)
        return done, lambda v: Operation(e.op, e.left, rest(v))
    return (e.left, e.op, e.right), lambda v: v


def line(a: int, op: str, b: int, result: int, rest: Expression) -> str:
    """A step as the reference policy writes it: `34*6=204, 24+(204-18)`; the last one has nothing left to show."""
    done = f"{a}{op}{b}={result}"
    return f"{done}, {text(rest)}" if isinstance(rest, Operation) else done


def solve(problem: Problem) -> list[str]:
    """The lines of the solution, ending in the answer line."""
    lines, e = [], problem.expression
    while isinstance(e, Operation):
        (a, op, b), rest = reduce_first(e)
        e = rest(apply(op, a, b))
        lines.append(line(a, op, b, apply(op, a, b), e))
    return [*lines, f"\\boxed{{{e}}}"]


def leaf(rng: random.Random) -> int:
    """Two digits mostly."""
    return rng.randint(2, 9) if rng.random() < 0.3 else rng.randint(10, 99)


def build(rng: random.Random, operations: int) -> Expression:
    """A random expression; values stay in [0, LARGEST] and factors below 100."""
    if operations == 0:
        return leaf(rng)
    while True:
        below = rng.randrange(operations)
        left, right = build(rng, below), build(rng, operations - 1 - below)
        a, b = value(left), value(right)
        fits = ["+"] * (a + b <= LARGEST) + ["-"] * (a > b) + ["*"] * (1 < a < 100 and 1 < b < 100)
        if fits:
            return Operation(rng.choice(fits), left, right)


def sample(rng: random.Random) -> Problem:
    """A problem of the family: two to four operations, one of them a product."""
    operations = rng.randint(2, 4)
    while True:
        problem = Problem(build(rng, operations))
        if problem.key.count("*") == 1:
            return problem


def training(rng: random.Random) -> Iterator[Problem]:
    """Endless problems for training, none of the test split."""
    while True:
        if not held_out(problem := sample(rng)):
            yield problem


def test_split(limit: int, offset: int = 0, seed: int = 7) -> list[Problem]:
    """The first `limit` problems after `offset` of the fixed test sequence: held out, all different."""
    rng = random.Random(seed)
    seen: dict[str, Problem] = {}
    while len(seen) < offset + limit:
        if held_out(problem := sample(rng)):
            seen.setdefault(problem.key, problem)
    return list(seen.values())[offset:]
