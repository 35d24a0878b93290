"""Steps of the reference domain: what is valid, and what can still be reached."""

import random
from fractions import Fraction as F
from itertools import permutations, product

import pytest

from experiments.problems import arithmetic as arithmetic_problems
from experiments.problems import countdown as countdown_problems
from verifiers.grade.expression import ExpressionError, parse
from verifiers.grade.steps import StepError, move, reachable, rewrite, state

START = state((4, 9, 10, 13))


def test_a_move():
    step = move("13-9=4 (left: 4 4 10)", START)
    assert (step.op, step.left, step.right, step.value, step.state) == ("-", 13, 9, 4, state((4, 4, 10)))


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("13 - 9 = 4 (left: 10 4 4)", (4, 4, 10)),  # any order
        ("9-13=-4 (left: -4 4 10)", (-4, 4, 10)),
        ("9/4=9/4 (left: 9/4, 10, 13)", (F(9, 4), 10, 13)),
        (r"4 \times 10 = 40 (Left: 9 13 40).", (9, 13, 40)),
    ],
)
def test_valid_moves(line, after):
    assert move(line, START).state == state(after)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("13-9=5 (left: 4 5 10)", "is 4, not 5"),
        ("13-8=5 (left: 4 5 10)", "8 is not among"),
        ("9-9=0 (left: 0 4 10 13)", "9 is not among"),
        ("13-9=4 (left: 4 10)", "left are 4 4 10"),
        ("13-9=4 (left: 4 4 11)", "left are 4 4 10"),
        ("13-9+4=8 (left: 8 10)", "one operation"),
        ("13=13 (left: 4 9 10 13)", "one operation"),
        ("-13=-13 (left: 4 9 10 -13)", "one operation"),
        ("13-9=4", "not of the form"),
        ("", "not of the form"),
        ("a-b=c (left: 1)", "unexpected"),
        ("13/0=1 (left: 1)", "zero"),
        ("13-9=4 (left: )", "nothing"),
    ],
)
def test_invalid_moves(line, reason):
    with pytest.raises(StepError, match=reason):
        move(line, START)


def test_moves_with_fractions_and_signs():
    assert move("(9/4)*4=9 (left: 9)", state((F(9, 4), 4))).state == (9,)
    assert move("10-(-4)=14 (left: 14)", state((10, -4))).state == (14,)


def every_value(numbers: tuple[int, ...]) -> set[F]:
    """All values of all expressions of three numbers, by writing every one of them."""
    values = set()
    for a, b, c in permutations(numbers):
        for f, g in product("+-*/", repeat=2):
            for text in (f"({a}{f}{b}){g}{c}", f"{a}{f}({b}{g}{c})"):
                try:
                    values.add(parse(text).value)
                except ExpressionError:
                    continue  # division by zero
    return values


def test_reach_is_what_all_expressions_have():
    rng = random.Random(3)
    for _ in range(12):
        numbers = tuple(rng.randint(0, 9) for _ in range(3))
        values = every_value(numbers)
        for target in range(-5, 40):
            assert reachable(state(numbers), F(target)) == (F(target) in values), (numbers, target)


def test_reach():
    assert reachable(state((3, 3, 8, 8)), F(24)) and reachable(state((1, 5, 5, 5)), F(24))
    assert not reachable(state((1, 1, 1, 1)), F(24)) and not reachable((), F(24))
    assert reachable((F(24),), F(24)) and not reachable((F(23),), F(24))
    with pytest.raises(ValueError, match="at most 6"):
        reachable(state(range(7)), F(24))


def test_every_step_of_generated_solutions_is_valid():
    rng = random.Random(1)
    for _ in range(30):
        puzzle = countdown_problems.sample(rng)
        left = state(puzzle.numbers)
        *lines, _ = countdown_problems.solve(puzzle, rng)
        for line in lines:
            left = move(line, left).state
            assert reachable(left, F(puzzle.target))
        assert left == (puzzle.target,)
        problem = arithmetic_problems.sample(rng)
        rest = parse(problem.key)
        *lines, _ = arithmetic_problems.solve(problem)
        for line in lines:
            rest = rewrite(line, rest)
        assert rest.operations() == 0 and rest.value == problem.answer


def test_any_order_of_work_will_do():
    before = parse("24+(34*6-18)")
    assert rewrite("34*6=204, 24+(204-18)", before).value == 210
    assert rewrite("34*6=204, (204-18)+24", before).value == 210
    assert rewrite("204-18=186, 24+186.", parse("24+(204-18)")).value == 210
    assert rewrite("24+186=210", parse("24+186")).operations() == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("34*6=206, 24+(206-18)", "is 204, not 206"),
        ("34*6=204, 24+(206-18)", "the rest is 212, not 210"),
        ("34*6=204, 24+34*6-18", "one operation shorter"),
        ("34*6=204", "the rest is 204, not 210"),
        ("34*6-18=186, 24+186", "one operation"),
        ("34*6=204, ", "not of the form"),
        ("34*6, 24", "not of the form"),
        ("34*6=x, 24", "unexpected"),
    ],
)
def test_invalid_rewrites(line, reason):
    with pytest.raises(StepError, match=reason):
        rewrite(line, parse("24+(34*6-18)"))
