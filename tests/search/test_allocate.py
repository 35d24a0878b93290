"""Sharing out draws: against brute force over all allocations, and the dual against the primal."""

import math
from itertools import accumulate, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from search.allocate import allocate, binary, falling, price, worth
from search.errors import ConfigError

chances = st.floats(0, 1)
rows_of_gains = st.lists(
    st.lists(st.floats(0, 1), min_size=1, max_size=4).map(lambda row: sorted(row, reverse=True)),
    min_size=1,
    max_size=4,
)


def gained(rows, draws):
    return math.fsum(sum(row[:b]) for row, b in zip(rows, draws, strict=True))


def brute(rows, budget, least=0):
    """The most that any allocation within the budget gains."""
    choices = product(*(range(min(least, len(row)), len(row) + 1) for row in rows))
    return max(gained(rows, draws) for draws in choices if sum(draws) <= budget)


@given(rows_of_gains, st.integers(0, 14))
def test_greedy_gains_what_the_best_allocation_gains(rows, budget):
    draws = allocate(rows, budget)
    assert sum(draws) <= budget
    assert gained(rows, draws) == pytest.approx(brute(rows, budget), abs=1e-12)


@given(st.lists(chances, min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 1))
def test_greedy_is_optimal_for_chances_of_success(chances, average, least):
    rows, budget = [binary(p, 4) for p in chances], average * len(chances)
    draws = allocate(rows, budget, least)
    assert sum(draws) <= budget and min(draws) >= least
    assert gained(rows, draws) == pytest.approx(brute(rows, budget, least), abs=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rows, budget: [budget // len(rows)] * len(rows),  # uniform
        lambda rows, budget: [budget if row is max(rows) else 0 for row in rows],  # all to the likeliest success
        lambda rows, budget: [budget if row is min(rows) else 0 for row in rows],  # all to the hardest
    ],
)
def test_other_allocations_gain_less(wrong):
    rows = [binary(p, 9) for p in (0.02, 0.3, 0.95)]
    assert gained(rows, allocate(rows, 9)) == pytest.approx(brute(rows, 9))
    assert gained(rows, wrong(rows, 9)) < brute(rows, 9) - 0.05


@given(chances, st.integers(1, 9), st.integers(1, 8))
def test_a_constant_prediction_gives_uniform_draws(p, problems, average):
    draws = allocate([binary(p, 8)] * problems, average * problems)
    assert len(set(draws)) == 1
    assert draws[0] == average or binary(p, 8)[draws[0]] == 0  # what gains nothing is not drawn


def test_hopeless_and_easy_problems_get_few():
    draws = allocate([binary(p, 64) for p in (0.0, 0.001, 0.2, 0.9, 1.0)], 24)
    assert draws[0] == draws[1] == 0 and draws[2] > 15 > draws[3] > draws[4] == 1


@given(st.floats(0, 1), st.integers(1, 20))
def test_gains_of_chances_are_differences_of_success(p, most):
    gains = binary(p, most)
    assert len(gains) == most and all(a >= b for a, b in zip(gains, gains[1:], strict=False))
    for b, total in enumerate(accumulate(gains), 1):
        assert total == pytest.approx(1 - (1 - p) ** b, abs=1e-12)


@given(rows_of_gains, st.integers(0, 14))
def test_the_price_gives_the_same_allocation_to_each_problem_alone(rows, budget):
    gains = [gain for row in rows for gain in row if gain > 0]
    assume(len(set(gains)) == len(gains))  # of equal gains the primal may take one and leave another
    at = price(rows, budget)
    assert [worth(row, at) for row in rows] == allocate(rows, budget)


@given(st.lists(chances, min_size=1, max_size=6), st.integers(1, 6), st.integers(0, 1))
def test_the_price_keeps_the_budget_and_no_lower_one_does(chances, average, least):
    rows, budget = [binary(p, 8) for p in chances], average * len(chances)
    at = price(rows, budget, least)
    assert sum(worth(row, at, least) for row in rows) <= budget
    lower = max((gain for row in rows for gain in row[least:] if 0 < gain < at), default=None)
    if lower is not None and at < math.inf:
        assert sum(worth(row, lower, least) for row in rows) > budget


def test_the_price_by_hand():
    rows = [[0.5, 0.25, 0.125], [0.4, 0.24, 0.144]]
    assert [price(rows, budget) for budget in range(8)] == [math.inf, 0.5, 0.4, 0.25, 0.24, 0.144, 0.125, 0.125]
    assert price([[0.5, 0.5]], 1) == math.inf  # the two are worth the same, and both are too many
    assert price(rows, 3, least=1) == 0.25


def test_falling_gains_by_hand():
    assert falling([0.1, 0.5, 0.3]) == pytest.approx([0.3, 0.3, 0.3])
    assert falling([0.6, 0.1, 0.3, 0.05]) == pytest.approx([0.6, 0.2, 0.2, 0.05])
    assert falling([]) == []


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6))
def test_falling_gains_fall_and_keep_their_sum(gains):
    row = falling(gains)
    assert all(a >= b for a, b in zip(row, row[1:], strict=False))
    assert math.fsum(row) == pytest.approx(math.fsum(gains), abs=1e-9)
    assert falling(row) == pytest.approx(row)
    best = math.fsum((a - b) ** 2 for a, b in zip(row, gains, strict=True))
    for level in (-1.0, -0.3, 0.0, 0.2, 0.7):  # no mixture with another falling row is nearer
        for other in ([level] * len(gains), sorted(gains, reverse=True)):
            mixed = [0.9 * a + 0.1 * b for a, b in zip(row, other, strict=True)]
            assert math.fsum((a - b) ** 2 for a, b in zip(mixed, gains, strict=True)) >= best - 1e-12


def test_what_makes_no_sense_is_refused():
    for call in (
        lambda: allocate([[0.1, 0.2]], 1),
        lambda: allocate([[0.2]] * 3, 2, least=1),
        lambda: price([[0.1, 0.2]], 1),
        lambda: binary(1.5, 3),
    ):
        with pytest.raises(ConfigError):
            call()
