"""Gumbel noise: its distribution, and what conditioning on the maximum does to it."""

import math
import random

import pytest

from search.gumbel import gumbel, with_maximum


def cdf(x, location=0.0):
    return math.exp(-math.exp(location - x))


def deviation(values, cumulative):
    """The Kolmogorov-Smirnov statistic, times the root of the sample size."""
    values = sorted(values)
    steps = [
        max(abs(cumulative(x) - i / len(values)), abs(cumulative(x) - (i + 1) / len(values)))
        for i, x in enumerate(values)
    ]
    return max(steps) * math.sqrt(len(values))


def test_draws_follow_the_distribution():
    rng = random.Random(0)
    assert deviation([gumbel(rng, 1.5) for _ in range(5000)], lambda x: cdf(x, 1.5)) < 1.6
    assert deviation([gumbel(rng, 1.5) for _ in range(5000)], lambda x: cdf(x, 1.4)) > 1.6


def test_the_largest_is_the_maximum_asked_for_and_the_order_stays():
    rng = random.Random(1)
    for _ in range(300):
        noisy = [gumbel(rng, rng.uniform(-20, 0)) for _ in range(rng.randint(1, 8))]
        maximum = rng.uniform(-30, 30)
        moved = with_maximum(noisy, maximum)
        assert max(moved) == maximum
        assert sorted(range(len(noisy)), key=noisy.__getitem__) == sorted(range(len(noisy)), key=moved.__getitem__)
        assert all(map(math.isfinite, moved))


def test_it_is_the_formula_of_the_paper():
    noisy, maximum = [0.3, -1.2, 2.0], 1.1
    plain = [-math.log(math.exp(-maximum) - math.exp(-2.0) + math.exp(-g)) for g in noisy]
    assert with_maximum(noisy, maximum) == pytest.approx(plain)


def test_draws_that_are_all_but_equal_stay_finite():
    assert with_maximum([0.1, math.nextafter(0.1, 0.0)], 0.3) == pytest.approx([0.3, 0.3])


def test_given_the_maximum_the_others_are_gumbel_draws_below_it():
    """Rejection sampling gives the same distribution."""
    rng, places = random.Random(2), (-0.5, -1.5)
    moved = []
    while len(moved) < 4000:
        noisy = [gumbel(rng, x) for x in places]
        if noisy[1] < noisy[0]:  # given which one is the largest
            moved.append(with_maximum(noisy, 0.7)[1])
    assert deviation(moved, lambda x: cdf(x, -1.5) / cdf(0.7, -1.5)) < 1.6
