"""Expressions: written so that Python reads the same value, solved one operation a line."""

import random

from experiments.problems import arithmetic


def test_text_means_what_the_tree_means():
    rng = random.Random(1)
    for problem in (arithmetic.sample(rng) for _ in range(500)):
        assert eval(problem.key) == problem.answer
        assert 0 <= problem.answer <= arithmetic.LARGEST


def test_every_line_of_a_solution_keeps_the_value_and_loses_one_operation():
    rng = random.Random(2)
    for problem in (arithmetic.sample(rng) for _ in range(200)):
        *steps, last, box = arithmetic.solve(problem)
        left = arithmetic.size(problem.expression)
        assert len(steps) + 1 == left
        for line in steps:
            done, rest = line.split(", ")
            operation, result = done.split("=")
            assert eval(operation) == int(result)
            assert eval(rest) == problem.answer
        assert last.endswith(f"={problem.answer}")
        assert box == f"\\boxed{{{problem.answer}}}"


def test_training_and_test_are_disjoint():
    rng = random.Random(0)
    trained = {next(arithmetic.training(rng)).key for _ in range(3000)}
    tested = {p.key for p in arithmetic.test_split(1000)}
    assert len(tested) == 1000
    assert trained.isdisjoint(tested)
    assert arithmetic.test_split(20, offset=40) == arithmetic.test_split(60)[40:]
