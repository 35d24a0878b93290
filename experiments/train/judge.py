"""Exact labels for what a policy really wrote: one GOOD or BAD per line, and the row the verifier learns from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from experiments.problems import arithmetic, countdown
from experiments.problems.arithmetic import Expression, Operation
from experiments.problems.countdown import Puzzle
from experiments.train.rows import BAD, GOOD, SEPARATOR, UNKNOWN, Row, encode, first_difference
from experiments.train.tokenizer import END
from verifiers.grade.countdown import check

_MOVE = re.compile(r"(\d+)([+\-*/])(\d+)=(\d+) \(left: (\d+(?: \d+)*)\)")
_BOX = re.compile(r"\\boxed\{(.*)\}")


def countdown_lines(puzzle: Puzzle, lines: Sequence[str]) -> list[bool]:
    """For each line whether the rules were kept and the target is still within reach; False after the first False."""
    state, alive, verdicts = tuple(sorted(puzzle.numbers)), True, []
    for line in lines:
        if alive and (move := _MOVE.fullmatch(line)):
            a, b, value = int(move[1]), int(move[3]), int(move[4])
            legal = [m for m in countdown.moves(state) if {m.a, m.b} == {a, b} and (m.op, m.value) == (move[2], value)]
            left = tuple(sorted(map(int, move[5].split())))
            alive = bool(legal) and (move[2] in "+*" or a >= b) and left == countdown.after(state, legal[0])
            alive = alive and puzzle.target in countdown.reachable(state := left)
        else:
            box = _BOX.fullmatch(line)
            alive = alive and box is not None and check(box[1], puzzle.numbers, puzzle.target).right
        verdicts.append(alive)
    return verdicts


def arithmetic_lines(problem: arithmetic.Problem, lines: Sequence[str]) -> list[bool]:
    """For each line whether it is the step that is due (or another operation, done right); False after a False."""
    e, alive, verdicts = problem.expression, True, []
    for line in lines:
        if alive and (box := _BOX.fullmatch(line)):
            alive = box[1] == str(problem.answer)
        elif alive and isinstance(e, Operation):
            rest = next((r for said, r in due(e) if said == line), None)
            alive, e = rest is not None, e if rest is None else rest
        else:
            alive = False
        verdicts.append(alive)
    return verdicts


def due(e: Expression) -> list[tuple[str, Expression]]:
    """Every right next line for an expression, with what it leaves; the leftmost operation first."""
    (a, op, b), rest = arithmetic.reduce_first(e)
    first = rest(v := arithmetic.apply(op, a, b))
    found = [(arithmetic.line(a, op, b, v, first), first)]
    for (a, op, b), left in arithmetic.reductions(e):
        found.append((arithmetic.line(a, op, b, arithmetic.apply(op, a, b), left), left))
    return found


def judged(problem: Puzzle | arithmetic.Problem, text: str, *, ended: bool) -> Row:
    """The row of one sample; within a bad line only what is surely wrong is labelled, and its end."""
    lines = text.split(SEPARATOR)
    is_puzzle = isinstance(problem, Puzzle)
    verdicts = countdown_lines(problem, lines) if isinstance(problem, Puzzle) else arithmetic_lines(problem, lines)
    row = Row()
    row.ask(problem.question)
    alive, e = True, None if isinstance(problem, Puzzle) else problem.expression
    for i, (line, good) in enumerate(zip(lines, verdicts, strict=True)):
        last = i == len(lines) - 1
        tokens = encode(line)
        if good:
            known = UNKNOWN if is_puzzle else GOOD  # a move is judged by its end: its beginning may belong to another
            row.add(tokens, learn=False, label=known)
        elif not alive:
            row.add(tokens, learn=False, label=BAD)
        else:
            at = len(tokens)
            if isinstance(e, Operation):
                right = encode(due(e)[0][0])
                at = first_difference(tokens, right)
                at = at if at > right.index(encode("=")[0]) else len(tokens)
            row.add(tokens, learn=False, label=[BAD if j >= at else UNKNOWN for j in range(len(tokens))])
        if not last:
            row.add(encode(SEPARATOR), learn=False, label=GOOD if good else BAD)
        elif ended:
            finished = good and bool(_BOX.fullmatch(line))
            row.add([END], learn=False, label=GOOD if finished else BAD)
        if good and isinstance(e, Operation):
            e = next((r for said, r in due(e) if said == line), e)
        alive = good
    return row
