"""Weights and choices: against tables worked out by hand, and against the law they claim to follow."""

import math
import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.weights import draw_distinct, joint, softmax, within_sigma

numbers = st.lists(st.floats(-20, 0), min_size=1, max_size=12)


def test_softmax_by_hand():
    assert softmax([-0.5, -0.7, -0.6], 0.1) == pytest.approx([0.665241, 0.090031, 0.244728], abs=1e-6)
    assert softmax([2 / 3, 2 / 3, 1 / 3]) == pytest.approx([0.368117, 0.368117, 0.263767], abs=1e-6)
    assert softmax([]) == []
    assert softmax([-1e6, 0.0], 0.01) == [0.0, 1.0]


@given(numbers, st.floats(-5, 5), st.floats(0.05, 5))
def test_softmax_adds_up_to_one_and_a_shift_changes_nothing(values, shift, temperature):
    assert math.fsum(softmax(values, temperature)) == pytest.approx(1)
    shifted = softmax([value + shift for value in values], temperature)
    assert shifted == pytest.approx(softmax(values, temperature), abs=1e-9)


def test_pruning_by_hand():
    # mean -0.65, population deviation 0.782624: the bound is -1.432624 for one deviation, -0.65 for none
    values = [-0.1, -0.2, -0.3, -2.0]
    assert within_sigma(values, 1.0) == [0, 1, 2]
    assert within_sigma(values, 1.5) == [0, 1, 2]  # -1.823936; with n - 1 in the deviation it would be -2.005
    assert within_sigma(values, 1.72) == [0, 1, 2]  # -1.996113
    assert within_sigma(values, 1.73) == [0, 1, 2, 3]  # -2.003940
    assert within_sigma(values, 0.0) == [0, 1, 2]
    assert within_sigma([-1.0, -0.9, -0.8], 0.0) == [1, 2]  # a value at the bound stays


@given(st.floats(-20, 0), st.integers(1, 9), st.floats(0, 3))
def test_equal_values_are_all_kept(value, count, sigma):
    assert within_sigma([value] * count, sigma) == list(range(count))


@given(numbers)
def test_far_enough_down_nothing_is_pruned(values):
    assert within_sigma(values, len(values)) == list(range(len(values)))


def test_joint_weights_by_hand():
    value, alignment = [0.665241, 0.090031, 0.244728], [0.368117, 0.368117, 0.263767]
    assert joint(value, alignment, "avg") == pytest.approx([0.516679, 0.229074, 0.254248], abs=2e-6)
    # exponents 1.033357, 0.458147, 0.508495
    assert joint(value, alignment, "boltzmann") == pytest.approx([0.464204, 0.261155, 0.274640], abs=2e-6)


@given(numbers, st.randoms(use_true_random=False), st.sampled_from(["avg", "boltzmann"]))
def test_joint_weights_add_up_to_one_and_move_with_their_candidates(values, rng, combine):
    alignment = softmax([rng.random() for _ in values])
    weights = joint(softmax(values), alignment, combine)
    assert math.fsum(weights) == pytest.approx(1)
    order = rng.sample(range(len(values)), len(values))
    moved = joint(softmax([values[i] for i in order]), [alignment[i] for i in order], combine)
    assert moved == pytest.approx([weights[i] for i in order])


def test_draws_without_replacement_follow_the_weights_left():
    weights, runs, rng = [0.5, 0.3, 0.2, 0.0], 20_000, random.Random(1)
    seen = Counter(tuple(draw_distinct(rng, weights, 2)) for _ in range(runs))
    chi2 = 0.0
    for a, b in permutations(range(3), 2):
        expected = runs * weights[a] * weights[b] / (1 - weights[a])
        chi2 += (seen.pop((a, b)) - expected) ** 2 / expected
    assert not seen
    assert chi2 < 15.1  # 1 % of the chi-square distribution with 5 degrees of freedom


@given(st.lists(st.sampled_from([0.0, 0.1, 1.0]), max_size=6), st.integers(0, 8), st.integers(0, 99))
def test_indices_are_different_and_zeros_come_last(weights, k, seed):
    chosen = draw_distinct(random.Random(seed), weights, k)
    assert len(chosen) == len(set(chosen)) == min(k, len(weights))
    zeros = [weights[i] == 0 for i in chosen]
    assert zeros == sorted(zeros)
