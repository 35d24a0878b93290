"""Countdown puzzles: combine numbers with + - * / to reach a target. The game of 24 is target 24.

The reference models speak a plain dialect of it: non-negative whole numbers and exact division. Every puzzle that
has a solution there has one in the wider game; the checker in `verifiers.grade.countdown` accepts any valid expression.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import NamedTuple

Numbers = tuple[int, ...]


class Move(NamedTuple):
    """One combination: `a op b = value`, a and b taken from the numbers left."""

    a: int
    op: str  # one of + - * /
    b: int
    value: int

    def __str__(self) -> str:
        return f"{self.a}{self.op}{self.b}={self.value}"


@dataclass(frozen=True)
class Puzzle:
    """Numbers in the order shown, each to be used once, and the target."""

    numbers: Numbers
    target: int

    @property
    def key(self) -> tuple[Numbers, int]:
        """What makes two puzzles the same: the sorted numbers and the target, never the text."""
        return tuple(sorted(self.numbers)), self.target

    @property
    def question(self) -> str:
        return f"Make {self.target} from {' '.join(map(str, self.numbers))}."


def held_out(puzzle: Puzzle) -> bool:
    """Whether a puzzle belongs to the test split: a tenth of all keys, chosen by a hash of the key."""
    return blake2b(repr(puzzle.key).encode(), digest_size=4).digest()[0] % 10 == 0


def public(puzzle: Puzzle) -> bool:
    """Whether a puzzle could be on the public list of the game of 24: four cards from 1 to 13, target 24."""
    return puzzle.target == 24 and len(puzzle.numbers) == 4 and all(1 <= n <= 13 for n in puzzle.numbers)


def trainable(puzzle: Puzzle) -> bool:
    """The only gate through which puzzles reach training."""
    return not held_out(puzzle) and not public(puzzle)


def moves_of_pair(a: int, b: int) -> list[Move]:
    """Every combination of two numbers; the larger stands first."""
    a, b = max(a, b), min(a, b)
    moves = [Move(a, "+", b, a + b), Move(a, "-", b, a - b), Move(a, "*", b, a * b)]
    if b and a % b == 0:
        moves.append(Move(a, "/", b, a // b))
    return moves


def after(numbers: Numbers, move: Move) -> Numbers:
    """The numbers left by a move, in ascending order."""
    left = list(numbers)
    left.remove(move.a)
    left.remove(move.b)
    return tuple(sorted([*left, move.value]))


@cache
def moves(numbers: Numbers) -> tuple[Move, ...]:
    """Every different move from a sorted state."""
    pairs = dict.fromkeys((a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :])
    return tuple(move for a, b in pairs for move in moves_of_pair(a, b))


@cache
def reachable(numbers: Numbers) -> frozenset[int]:
    """Every value that using all of the (sorted) numbers can give."""
    if len(numbers) == 1:
        return frozenset(numbers)
    return frozenset().union(*(reachable(after(numbers, move)) for move in moves(numbers)))


def good_moves(numbers: Numbers, target: int) -> list[Move]:
    """The moves after which the target can still be reached."""
    return [move for move in moves(numbers) if target in reachable(after(numbers, move))]


def step(numbers: Numbers, move: Move) -> str:
    """A move as the reference policy writes it: `13-9=4 (left: 4 4 10)`."""
    return f"{move} (left: {' '.join(map(str, after(numbers, move)))})"


class Expressions:
    """The expression behind each number in play; what the answer line is assembled from."""

    def __init__(self, numbers: Numbers):
        self._of: list[tuple[int, str, bool]] = [(n, str(n), True) for n in numbers]  # value, text, atomic

    def play(self, move: Move) -> None:
        left, right = self._take(move.a), self._take(move.b)
        self._of.append((move.value, f"{left}{move.op}{right}", False))

    def _take(self, value: int) -> str:
        for entry in self._of:
            if entry[0] == value:
                self._of.remove(entry)
                _, text, atomic = entry
                return text if atomic else f"({text})"
        raise ValueError(f"{value} is not among the numbers left: {[v for v, *_ in self._of]}")

    def answer(self) -> str:
        """The last expression standing, as the answer line."""
        return f"\\boxed{{{self._of[-1][1]}}}"


def solve(puzzle: Puzzle, rng: random.Random) -> list[str]:
    """The lines of a solution drawn at random: uniform over good moves at each step, then the answer line."""
    state, built, lines = tuple(sorted(puzzle.numbers)), Expressions(puzzle.numbers), []
    while len(state) > 1:
        move = rng.choice(good_moves(state, puzzle.target))
        lines.append(step(state, move))
        built.play(move)
        state = after(state, move)
    return [*lines, built.answer()]


def sample(rng: random.Random, *, target: int | None = None, solvable: bool = True, size: int | None = None) -> Puzzle:
    """A puzzle of the family: three numbers (mostly) or four, from 1 to 20; target from 10 to 99 unless given."""
    count = size or (3 if rng.random() < 0.8 else 4)
    while True:
        numbers = tuple(rng.randint(1, 20 if rng.random() < 0.4 else 13) for _ in range(count))
        values = reachable(tuple(sorted(numbers)))
        if target is not None:
            goal = target
        elif solvable:
            goal = rng.choice(sorted(v for v in values if 10 <= v <= 99) or [0])
        else:
            goal = rng.randint(10, 99)
        if goal and goal not in numbers and (not solvable or goal in values):
            return Puzzle(numbers, goal)


def training(
    rng: random.Random, *, target: int | None = None, solvable: bool = True, size: int | None = None
) -> Iterator[Puzzle]:
    """Endless puzzles for training, as `sample`: never one of the test split, never one of the public list."""
    while True:
        if trainable(puzzle := sample(rng, target=target, solvable=solvable, size=size)):
            yield puzzle


def test_split(limit: int, offset: int = 0, seed: int = 24) -> list[Puzzle]:
    """The first `limit` puzzles after `offset` of the fixed test sequence: held out, solvable, all different."""
    rng = random.Random(seed)
    seen: dict[tuple[Numbers, int], Puzzle] = {}
    while len(seen) < offset + limit:
        puzzle = sample(rng)
        if held_out(puzzle) and not public(puzzle):
            seen.setdefault(puzzle.key, puzzle)
    return list(seen.values())[offset:]
