"""What each reference model is trained on: courses, each a mixture of row makers."""

from __future__ import annotations

import random

from experiments.problems import arithmetic, countdown
from experiments.train import traces
from experiments.train.rows import Row, lesson


def a_countdown(rng: random.Random, *, solvable: bool = True) -> countdown.Puzzle:
    """A training puzzle of three or four numbers alike; three in ten make 24 (then a number is above 13)."""
    target = 24 if rng.random() < 0.3 else None
    return next(countdown.training(rng, target=target, solvable=solvable, size=rng.choice((3, 4))))


def four_or_three(rng: random.Random, four: float) -> countdown.Puzzle:
    """A training puzzle of four numbers with probability `four`, else of three; a third of them make 24."""
    size = 4 if rng.random() < four else 3
    return next(countdown.training(rng, target=24 if rng.random() < 0.35 else None, size=size))


def a_lesson(rng: random.Random, arithmetic_share: float) -> Row:
    """A right solution of one family or the other."""
    if rng.random() < arithmetic_share:
        problem = next(arithmetic.training(rng))
        return lesson(problem.question, arithmetic.solve(problem))
    puzzle = a_countdown(rng)
    return lesson(puzzle.question, countdown.solve(puzzle, rng))


def policy_row(rng: random.Random) -> Row:
    """Right solutions of both families, and single operations."""
    return traces.facts(rng, 8) if rng.random() < 0.1 else a_lesson(rng, arithmetic_share=0.25)


def policy_last(rng: random.Random) -> Row:
    """The policy's last course: mostly puzzles of four numbers, whose answer line is the hardest to write."""
    kind = rng.random()
    if kind < 0.2:
        return a_lesson(rng, arithmetic_share=1.0)
    puzzle = four_or_three(rng, four=0.8)
    return lesson(puzzle.question, countdown.solve(puzzle, rng))


def foundation_row(rng: random.Random) -> Row:
    """The verifier's first course: the policy's lessons and many single operations, and what mistakes look like."""
    kind = rng.random()
    if kind < 0.35:
        return a_lesson(rng, arithmetic_share=0.35)
    if kind < 0.6:
        return traces.facts(rng, 8)
    return verifier_row(rng)


def verifier_row(rng: random.Random) -> Row:
    """Right and wrong reasoning with exact labels, see `traces`, and many single operations: who checks must know."""
    kind = rng.random()
    if kind < 0.03:
        return a_lesson(rng, arithmetic_share=0.35)
    if kind < 0.43:
        return traces.facts(rng, 8)
    if kind < 0.56:
        slip = 0.0 if rng.random() < 0.35 else 0.2
        return traces.arithmetic_trace(next(arithmetic.training(rng)), rng, slip)
    if kind < 0.87:
        return traces.first_moves(a_countdown(rng, solvable=rng.random() < 0.85), rng, 8)
    return traces.countdown_trace(a_countdown(rng), rng, 0.0 if rng.random() < 0.65 else 0.3)


def answers_row(rng: random.Random) -> Row:
    """The verifier's last course: what an answer line is assembled from, beside all it has learnt before."""
    kind = rng.random()
    if kind < 0.40:
        return traces.facts(rng, 8)
    if kind < 0.68:
        return traces.answer_lines(four_or_three(rng, four=0.85), rng, 6)
    if kind < 0.80:
        return traces.first_moves(four_or_three(rng, four=0.8), rng, 10)
    if kind < 0.95:
        slip = 0.0 if rng.random() < 0.35 else 0.2
        return traces.arithmetic_trace(next(arithmetic.training(rng)), rng, slip)
    return traces.countdown_trace(a_countdown(rng), rng, 0.0 if rng.random() < 0.65 else 0.3)


COURSES = {
    "policy": policy_row,
    "policy_last": policy_last,
    "foundation": foundation_row,
    "verifier": verifier_row,
    "answers": answers_row,
}
