"""Puzzles: what is solvable, what is a good move, and that tests and training never share a puzzle."""

import json
import os
import random
from itertools import permutations
from pathlib import Path

import pytest

from experiments.problems import countdown
from experiments.problems.countdown import Puzzle


def every_value(numbers):
    """All values by brute force over orders and groupings, whole and non-negative on the way."""
    if len(numbers) == 1:
        return {numbers[0]}
    found = set()
    for order in permutations(range(len(numbers)), 2):
        a, b = (numbers[i] for i in order)
        rest = [n for i, n in enumerate(numbers) if i not in order]
        results = [a + b, a * b] + [a - b] * (a >= b) + ([a // b] if b and a % b == 0 else [])
        for value in results:
            found |= every_value([*rest, value])
    return found


@pytest.mark.parametrize("numbers", [(4,), (3, 8), (2, 6, 6), (1, 5, 7, 10), (2, 2, 9, 13)])
def test_reachable_is_what_brute_force_finds(numbers):
    assert countdown.reachable(numbers) == every_value(list(numbers))


def test_a_move_is_good_exactly_when_the_rest_can_still_be_solved():
    state, target = (4, 9, 10, 13), 24
    good = set(countdown.good_moves(state, target))
    for move in countdown.moves(state):
        assert (move in good) == (target in every_value(list(countdown.after(state, move))))
    assert countdown.Move(13, "-", 9, 4) in good


def test_solutions_are_right_whatever_the_dice():
    rng = random.Random(3)
    for puzzle in (next(countdown.training(rng)) for _ in range(200)):
        *_, answer = countdown.solve(puzzle, rng)
        expression = answer.removeprefix("\\boxed{").removesuffix("}")
        assert eval(expression) == puzzle.target
        used = sorted(int(n) for n in "".join(c if c.isdigit() else " " for c in expression).split())
        assert used == sorted(puzzle.numbers)


def test_no_training_puzzle_is_held_out_or_could_be_public_in_any_order():
    rng = random.Random(0)
    puzzles = [next(countdown.training(rng, target=target)) for target in [None] * 2000 + [24] * 1000]
    assert not any(countdown.held_out(p) or countdown.public(p) for p in puzzles)
    test_keys = {p.key for p in countdown.test_split(1000)}
    assert test_keys.isdisjoint(p.key for p in puzzles)
    shuffled = Puzzle((13, 4, 10, 9), 24)
    assert countdown.public(shuffled) and not countdown.trainable(shuffled)
    one = countdown.test_split(1)[0]
    assert all(countdown.held_out(Puzzle(order, one.target)) for order in permutations(one.numbers))


def test_the_public_list_is_excluded_entirely():
    data = Path(os.environ.get("TREEWISE_DATA", "../shared/data")) / "benchmarks" / "game24.jsonl"
    data = data if data.exists() else Path(os.environ.get("TREEWISE_DATA", "")) / "game24.jsonl"
    if not data.exists():
        pytest.skip("the public list of game-of-24 puzzles is not here: set TREEWISE_DATA to the folder that holds it")
    puzzles = [Puzzle(tuple(json.loads(line)["numbers"]), 24) for line in data.read_text().splitlines()]
    assert len(puzzles) == 1362
    assert not any(countdown.trainable(p) for p in puzzles)


def test_the_test_split_is_fixed_different_and_solvable():
    first = countdown.test_split(60)
    assert countdown.test_split(20, offset=40) == first[40:]
    assert len({p.key for p in first}) == 60
    assert all(p.target in countdown.reachable(tuple(sorted(p.numbers))) for p in first)
