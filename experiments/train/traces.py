"""Right and wrong reasoning with exact labels: what the verifier learns from, made without any model."""

from __future__ import annotations

import random
import re

from experiments.problems import arithmetic, countdown
from experiments.problems.arithmetic import Expression, Operation
from experiments.problems.countdown import Expressions, Move, Puzzle
from experiments.train.rows import BAD, GOOD, SEPARATOR, UNKNOWN, Row, encode, first_difference
from experiments.train.tokenizer import END
from verifiers.grade.countdown import check


def near_miss(n: int, rng: random.Random) -> int:
    """A number one could mistake for `n`, never `n`, never negative."""
    while True:
        digits = list(str(n))
        kind = rng.random()
        if kind < 0.5:
            digits[rng.randrange(len(digits))] = rng.choice("0123456789")
            m = int("".join(digits))
        elif kind < 0.6:
            rng.shuffle(digits)
            m = int("".join(digits))
        else:
            m = n + rng.choice((-100, -20, -10, -9, -2, -1, 1, 2, 9, 10, 20, 100, rng.randint(-99, 99)))
        if m != n and 0 <= m <= arithmetic.LARGEST:
            return m


def step_row(row: Row, said: str, right: str, alive: bool) -> bool:
    """Appends a step that says `said` where `right` was due; labels turn BAD at the first token that differs."""
    tokens, due = encode(said), encode(right)
    at = len(tokens) if said == right else first_difference(tokens, due)
    label = [GOOD if alive and i < at else BAD for i in range(len(tokens))]
    row.add(tokens, learn=alive and said == right, label=label)
    return alive and said == right


def facts(rng: random.Random, count: int) -> Row:
    """Single operations; half of the rows also hold wrong results, each judged by itself."""
    row, slips = Row(), rng.random() < 0.5
    for _ in range(count):
        a, op, b = operation(rng)
        v = arithmetic.apply(op, a, b)
        said = mistaken(a, op, b, rng) if slips and rng.random() < 0.5 else v
        row.add(encode(f"{a}{op}{b}="), learn=False, label=UNKNOWN)
        ok = step_row(row, str(said), str(v), True)
        row.add(encode(SEPARATOR), learn=False, label=GOOD if ok else BAD)
    return row


def mistaken(a: int, op: str, b: int, rng: random.Random) -> int:
    """A wrong result; of products often one that a table half known would give: the right size and the right ending."""
    v = arithmetic.apply(op, a, b)
    if op == "*" and rng.random() < 0.6:
        said = v + rng.choice((-1, 1)) * rng.choice((a, b, 2 * a, 2 * b, 10, 20, 30, 60, 100, 6, 12, 24, 36, 4, 8))
        return said if said > 0 else near_miss(v, rng)
    return near_miss(v, rng)


def operation(rng: random.Random) -> tuple[int, str, int]:
    """Two numbers and an operator as they occur in the domain; most are products, the table that takes longest."""
    if rng.random() < 0.75:
        return rng.randint(2, 99), "*", rng.randint(2, 99)
    a, b = (rng.randint(1, 99) if rng.random() < 0.6 else rng.randint(1, 4999) for _ in range(2))
    return (a, "+", b) if rng.random() < 0.5 else (max(a, b), "-", min(a, b))


def arithmetic_trace(problem: arithmetic.Problem, rng: random.Random, slip: float) -> Row:
    """A solution in which each step goes wrong with probability `slip`, and what follows builds on it."""
    row, e, alive = Row(), problem.expression, True
    row.ask(problem.question)
    while isinstance(e, Operation):
        (a, op, b), rest = arithmetic.reduce_first(e)
        v = arithmetic.apply(op, a, b)
        if not 0 <= v <= 4 * arithmetic.LARGEST:
            return row  # an earlier slip has left the domain
        right = arithmetic.line(a, op, b, v, rest(v))
        e = rest(v)
        if rng.random() < slip:
            e = (
                misread(e, rng)
                if isinstance(e, Operation) and rng.random() < 0.25
                else rest(v := mistaken(a, op, b, rng))
            )
        alive = step_row(row, arithmetic.line(a, op, b, v, e), right, alive)
        row.add(encode(SEPARATOR), learn=alive, label=GOOD if alive else BAD)
    final = near_miss(e, rng) if rng.random() < 0.03 else e
    alive = step_row(row, f"\\boxed{{{final}}}", f"\\boxed{{{e}}}", alive)
    row.add([END], learn=alive, label=GOOD if alive else BAD)
    return row


def misread(e: Expression, rng: random.Random) -> Expression:
    """The expression with one number or operator copied wrongly."""
    if isinstance(e, int):
        return near_miss(e, rng)
    kind = rng.random()
    if kind < 0.2:
        return Operation(rng.choice([op for op in "+-*" if op != e.op]), e.left, e.right)
    return (
        Operation(e.op, misread(e.left, rng), e.right) if kind < 0.6 else Operation(e.op, e.left, misread(e.right, rng))
    )


def move_tokens(row: Row, state: countdown.Numbers, move: Move, good: bool, *, learn: bool, branch: int = 0) -> None:
    """Appends a legal move; what it is worth is claimed from its result on, not before."""
    row.add(encode(f"{move.a}{move.op}{move.b}="), learn=learn, label=UNKNOWN, branch=branch)
    rest = f" (left: {' '.join(map(str, countdown.after(state, move)))}){SEPARATOR}"
    row.add(encode(f"{move.value}{rest}"), learn=learn, label=GOOD if good else BAD, branch=branch)


def first_moves(puzzle: Puzzle, rng: random.Random, count: int) -> Row:
    """Different first moves as branches of one prompt, each labelled by whether the target stays within reach."""
    row, state = Row(), tuple(sorted(puzzle.numbers))
    row.ask(puzzle.question)
    for branch, move in enumerate(rng.sample(countdown.moves(state), min(count, len(countdown.moves(state)))), start=1):
        good = puzzle.target in countdown.reachable(countdown.after(state, move))
        move_tokens(row, state, move, good, learn=False, branch=branch)
    return row


def countdown_trace(puzzle: Puzzle, rng: random.Random, slip: float) -> Row:
    """A play to the end: good moves and bad ones, and with probability `slip` a step that breaks the rules."""
    row, state, built = Row(), tuple(sorted(puzzle.numbers)), Expressions(puzzle.numbers)
    row.ask(puzzle.question)
    alive = puzzle.target in countdown.reachable(state)
    while len(state) > 1:
        good = countdown.good_moves(state, puzzle.target)
        move = rng.choice(good if good and rng.random() < 0.65 else countdown.moves(state))
        if rng.random() < slip:
            alive, state = broken_move(row, state, move, puzzle, alive, rng), countdown.after(state, move)
            return finish_broken(row, state, rng)
        alive = alive and puzzle.target in countdown.reachable(countdown.after(state, move))
        move_tokens(row, state, move, alive, learn=alive)
        built.play(move)
        state = countdown.after(state, move)
    answer = built.answer()
    said = misspelt(answer, puzzle, rng) if rng.random() < 0.5 else answer
    right = check(said.removeprefix("\\boxed{").removesuffix("}"), puzzle.numbers, puzzle.target).right
    tokens = encode(said)
    at = len(tokens) if alive and right else first_difference(tokens, encode(answer)) if alive else 0
    row.add(tokens, learn=alive and right, label=[GOOD if i < at else BAD for i in range(len(tokens))])
    row.add([END], learn=alive and right, label=GOOD if alive and right else BAD)
    return row


def broken_move(
    row: Row, state: countdown.Numbers, move: Move, puzzle: Puzzle, alive: bool, rng: random.Random
) -> bool:
    """Appends a step against the rules: an invented result (often the target), or a wrong list of what is left."""
    left = list(countdown.after(state, move))
    right = f"{move} (left: {' '.join(map(str, left))})"
    kind = rng.random()
    if kind < 0.6:
        wished = puzzle.target if len(state) == 2 or rng.random() < 0.2 else near_miss(move.value, rng)
        if wished == move.value:
            wished = near_miss(move.value, rng)
        left[left.index(move.value)] = wished
        move = move._replace(value=wished)
    elif kind < 0.8 or len(left) == 1:
        i = rng.randrange(len(left))
        left[i] = near_miss(left[i], rng)
    else:
        left.remove(rng.choice(left))
    said = f"{move} (left: {' '.join(map(str, sorted(left)))})"
    if said == right:
        return alive
    at = first_difference(encode(said), encode(right))
    tokens = [*encode(said), *encode(SEPARATOR)]
    row.add(tokens, learn=False, label=[UNKNOWN if i < at else BAD for i in range(len(tokens))])
    return False


def finish_broken(row: Row, state: countdown.Numbers, rng: random.Random) -> Row:
    """Goes on after a broken step with moves that are right by themselves; everything stays BAD."""
    while len(state) > 1:
        move = rng.choice(countdown.moves(state))
        row.add(encode(countdown.step(state, move) + SEPARATOR), learn=False, label=BAD)
        state = countdown.after(state, move)
    return row


def misspelt(answer: str, puzzle: Puzzle, rng: random.Random) -> str:
    """An answer line with one number or operator changed; numbers mostly for others of the puzzle, as policies do."""
    found = list(re.finditer(r"\d+|[+\-*/]", answer))
    part = rng.choice(found)
    if not part[0].isdigit():
        other = rng.choice([op for op in "+-*/" if op != part[0]])
    elif rng.random() < 0.75 and (others := [n for n in puzzle.numbers if n != int(part[0])]):
        other = str(rng.choice(others))
    else:
        other = str(near_miss(int(part[0]), rng))
    return f"{answer[: part.start()]}{other}{answer[part.end() :]}"


def answer_lines(puzzle: Puzzle, rng: random.Random, count: int) -> Row:
    """A right play, and as branches of its end the answer line and wrong ones, which the moves do not say."""
    row, state, built = Row(), tuple(sorted(puzzle.numbers)), Expressions(puzzle.numbers)
    row.ask(puzzle.question)
    said = [str(n) for n in puzzle.numbers]
    while len(state) > 1:
        move = rng.choice(countdown.good_moves(state, puzzle.target))
        move_tokens(row, state, move, True, learn=False)
        built.play(move)
        state = countdown.after(state, move)
        said += [str(move.value), f"({move.a}{move.op}{move.b})"]
    answer = built.answer()
    misspell = [rng.random() < 0.3 for _ in range(count)]
    wrong = {misspelt(answer, puzzle, rng) if so else misassembled(answer, said, rng) for so in misspell}
    lines = [answer, *sorted(wrong - {answer})]
    rng.shuffle(lines)
    for branch, line in enumerate(lines, start=1):
        tokens = encode(line)
        right = check(line.removeprefix("\\boxed{").removesuffix("}"), puzzle.numbers, puzzle.target).right
        at = len(tokens) if right else first_difference(tokens, encode(answer))
        row.add(tokens[:1], learn=False, label=UNKNOWN, branch=branch)  # predicted from the trunk, not from a branch
        row.add(tokens[1:], learn=right, label=[GOOD if i < at else BAD for i in range(1, len(tokens))], branch=branch)
        row.add([END], learn=right, label=GOOD if right else BAD, branch=branch)
    return row


def misassembled(answer: str, said: list[str], rng: random.Random) -> str:
    """An answer line in which one number or bracket stands for another of those `said` on the way."""
    part = rng.choice(list(re.finditer(r"\d+|\([^()]*\)", answer)))
    return f"{answer[: part.start()]}{rng.choice(said)}{answer[part.end() :]}"
