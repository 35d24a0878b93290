"""Shares of a whole number: sums, fairness, and small tables."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.shares import evenly, heaviest_first, largest_remainder, nearest
from search.weights import softmax

VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=9)


@given(VALUES, st.integers(0, 50))
def test_shares_add_up_and_are_near_what_they_should_be(values, total):
    weights = softmax(values)
    assert sum(weights) == pytest.approx(1)
    exact = largest_remainder(weights, total)
    assert sum(exact) == sum(heaviest_first(weights, total)) == total
    for counts in (exact, nearest(weights, total)):
        assert all(abs(count - total * w) < 1 + 1e-6 for count, w in zip(counts, weights, strict=True))
    order = sorted(range(len(weights)), key=lambda i: weights[i])
    assert all(exact[a] <= exact[b] + (weights[b] - weights[a] < 1e-12) for a, b in zip(order, order[1:], strict=False))


@given(st.integers(1, 9), st.integers(0, 50), st.booleans())
def test_even_shares_differ_by_one_unless_the_last_takes_the_rest(count, total, drawn):
    shares = evenly(count, total, random.Random(0) if drawn else None)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= (1 if drawn else total % count)


def test_the_remainder_is_drawn_evenly():
    rng = random.Random(0)
    got = Counter(i for _ in range(3000) for i, n in enumerate(evenly(3, 4, rng)) if n == 2)
    assert all(abs(got[i] - 1000) < 100 for i in range(3))
    assert evenly(3, 5, None) == [1, 1, 3]


def test_by_hand():
    assert largest_remainder([0.5, 0.3, 0.2], 4) == [2, 1, 1]
    assert largest_remainder([0.25, 0.25, 0.25, 0.25], 6) == [2, 2, 1, 1]
    assert heaviest_first([0.2, 0.5, 0.3], 4) == [0, 2, 2]
    assert nearest([0.125, 0.875], 4) == [1, 4]
