"""Exact labels for what a policy really wrote: one GOOD or BAD per line, and the row the verifier learns from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from experiments.problems import arithmetic
from experiments.problems.countdown import Puzzle
from experiments.train.rows import BAD, GOOD, SEPARATOR, UNKNOWN, Row, encode, first_difference
from experiments.train.tokenizer import END
from verifiers.grade import arithmetic as grade_arithmetic
from verifiers.grade.countdown import check_text
from verifiers.grade.expression import Expression
from verifiers.grade.steps import StepError, move, reachable, rewrite, state

_RESULT = re.compile(r"(\d+)([+\-*/])(\d+)=\d+")
_BOX = "\\boxed{"


def countdown_lines(puzzle: Puzzle, lines: Sequence[str]) -> list[bool]:
    """For each line whether the rules were kept and the target is still within reach; False after the first False."""
    left, alive, verdicts = state(puzzle.numbers), True, []
    for line in lines:
        if alive and line.startswith(_BOX):
            alive = check_text(line, puzzle.numbers, puzzle.target).right
        elif alive:
            try:
                left = move(line, left).state
                alive = reachable(left, Fraction(puzzle.target))
            except StepError:
                alive = False
        verdicts.append(alive)
    return verdicts


def arithmetic_lines(problem: arithmetic.Problem, lines: Sequence[str]) -> list[bool]:
    """For each line whether it is one operation done right, in any order; False after the first False."""
    left: Expression | None = grade_arithmetic.read_question(problem.question)
    verdicts, alive = [], left is not None
    for line in lines:
        if alive and line.startswith(_BOX):
            alive = grade_arithmetic.grade(line, problem.answer).verdict == "right"
        elif alive and left is not None:
            try:
                left = rewrite(line, left)
            except StepError:
                alive = False
        verdicts.append(alive)
    return verdicts


def judged(problem: Puzzle | arithmetic.Problem, text: str, *, ended: bool) -> Row:
    """The row of one sample; within the first bad line only what is surely wrong is labelled, and its end."""
    lines = text.split(SEPARATOR)
    verdicts = countdown_lines(problem, lines) if isinstance(problem, Puzzle) else arithmetic_lines(problem, lines)
    row, alive = Row(), True
    row.ask(problem.question)
    for i, (line, good) in enumerate(zip(lines, verdicts, strict=True)):
        tokens = encode(line)
        wrong = wrong_from(line) if alive else 0
        # the beginning of a move may belong to another move: only its end is known to be good
        within = UNKNOWN if isinstance(problem, Puzzle) or not good else GOOD
        row.add(tokens, learn=False, label=[BAD if not good and j >= wrong else within for j in range(len(tokens))])
        if i < len(lines) - 1:
            row.add(encode(SEPARATOR), learn=False, label=GOOD if good else BAD)
        elif ended:
            row.add([END], learn=False, label=GOOD if good and line.startswith(_BOX) else BAD)
        alive = good
    return row


def wrong_from(line: str) -> int:
    """The first token of a line whose operation has a wrong result where it is wrong; else the line's length."""
    tokens, found = encode(line), _RESULT.match(line)
    if found is None:
        return len(tokens)
    a, op, b = int(found[1]), found[2], int(found[3])
    exact = Fraction(a, b) if op == "/" and b else arithmetic.apply(op, a, b) if op != "/" else None
    said = encode(found[0])
    at = first_difference(said, encode(f"{a}{op}{b}={exact}")) if exact is not None else len(said)
    return at if at < len(said) else len(tokens)
