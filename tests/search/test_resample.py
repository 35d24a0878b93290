"""Resampling: every scheme gives n * w copies on average, and no more spread than it promises."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from search.resample import effective_sample_size, multinomial, normalised, residual, stratified, systematic

SCHEMES = [multinomial, stratified, systematic, residual]
WEIGHTS = [0.9, 0.0, 2.3, 0.4, 1.1, 3.0, 0.3]  # they need not sum to 1


def chi_square(scheme, weights, n, runs, seed=0):
    """The statistic over all copies drawn, and its 0.999 quantile. Copies of one run are not independent (their
    spread is at most multinomial's), so this is exact for multinomial and careful for the others."""
    rng, counts = random.Random(seed), Counter()
    for _ in range(runs):
        counts.update(scheme(weights, n, rng))
    wanted = [runs * n * w for w in normalised(weights)]
    statistic = sum((counts[i] - x) ** 2 / x for i, x in enumerate(wanted) if x)
    return statistic, chi2.ppf(0.999, sum(x > 0 for x in wanted) - 1)


def z_scores(scheme, weights, n, runs, seed=0):
    """How many standard errors the mean copies of each index are from n * w; exact for every scheme."""
    rng = random.Random(seed)
    drawn = [Counter(scheme(weights, n, rng)) for _ in range(runs)]
    for i, w in enumerate(normalised(weights)):
        copies = [count[i] for count in drawn]
        mean = sum(copies) / runs
        spread = math.sqrt(sum((x - mean) ** 2 for x in copies) / (runs - 1) / runs)
        yield (mean - n * w) / spread if spread else 1e9 * abs(mean - n * w)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("n", [1, 5, 16])
def test_copies_are_what_the_weights_say_on_average(scheme, n):
    statistic, quantile = chi_square(scheme, WEIGHTS, n, 4000)
    assert statistic < quantile
    assert max(abs(z) for z in z_scores(scheme, WEIGHTS, n, 4000)) < 3.6


def rounded(weights, n, rng):
    """Broken: the heaviest get what is left over."""
    copies = [math.floor(n * w) for w in normalised(weights)]
    best = sorted(range(len(copies)), key=lambda i: -weights[i])
    return [i for i, k in enumerate(copies) for _ in range(k)] + best[: n - sum(copies)]


def squared(weights, n, rng):
    """Broken: a slightly different power of the weights."""
    return multinomial([w**1.1 for w in weights], n, rng)


@pytest.mark.parametrize("broken", [rounded, squared])
def test_a_scheme_that_is_biased_is_caught(broken):
    statistic, quantile = chi_square(broken, WEIGHTS, 16, 4000)
    assert statistic > quantile
    assert max(abs(z) for z in z_scores(broken, WEIGHTS, 16, 4000)) > 3.6


def test_the_spread_of_copies_shrinks_from_scheme_to_scheme():
    spread = {}
    for scheme in SCHEMES:
        rng = random.Random(1)
        drawn = [Counter(scheme(WEIGHTS, 16, rng)) for _ in range(2000)]
        wanted = [16 * w for w in normalised(WEIGHTS)]
        spread[scheme] = sum((count[i] - x) ** 2 for count in drawn for i, x in enumerate(wanted)) / 2000
    assert max(spread[systematic], spread[stratified], spread[residual]) < 0.5 * spread[multinomial]
    variance = sum(16 * w * (1 - w) for w in normalised(WEIGHTS))
    assert spread[multinomial] == pytest.approx(variance, rel=0.05)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(any),
    st.integers(0, 40),
    st.integers(0, 1000),
    st.sampled_from(SCHEMES),
)
def test_what_always_holds(weights, n, seed, scheme):
    drawn = Counter(scheme(weights, n, random.Random(seed)))
    assert sum(drawn.values()) == n and all(0 <= i < len(weights) and weights[i] > 0 for i in drawn)
    assert 1 - 1e-9 <= effective_sample_size(weights) <= len(weights) + 1e-9
    for i, w in enumerate(normalised(weights)):
        if scheme in (systematic, residual):
            assert drawn[i] >= math.floor(n * w - 1e-6)
        if scheme is systematic:
            assert drawn[i] <= math.ceil(n * w + 1e-6)
        if scheme is stratified:
            assert math.floor(n * w - 1e-6) - 1 <= drawn[i] <= math.ceil(n * w + 1e-6) + 1


def test_whole_expectations_are_met_exactly_where_the_scheme_promises():
    for scheme in (stratified, systematic, residual):
        assert Counter(scheme([0.25, 0.5, 0.25], 8, random.Random(3))) == {0: 2, 1: 4, 2: 2}
    assert residual([0.1] * 10, 10, random.Random(0)) == list(range(10))


def test_the_random_source_is_the_only_one():
    for scheme in SCHEMES:
        assert scheme(WEIGHTS, 9, random.Random(5)) == scheme(WEIGHTS, 9, random.Random(5))


def test_effective_sample_size():
    assert effective_sample_size([1, 1, 1, 1]) == pytest.approx(4)
    assert effective_sample_size([0, 3, 0]) == 1
    assert effective_sample_size([1, 1, 2]) == pytest.approx(16 / 6)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -0.1], [1.0, math.nan], [math.inf, 1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        multinomial(weights, 3, random.Random(0))
