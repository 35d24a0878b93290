"""Rules, against the formulas of the papers."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.rules import (
    Arm,
    by_logprob,
    by_times,
    consistent,
    drop,
    p_ucb,
    puct,
    r,
    shortfall,
    ucb,
    uct,
    uct_fast,
    uct_offset,
    uniform,
    zero,
)
from search.tree import Tree
from search.types import Segment

scores = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def path(scores):
    """The root and a chain of nodes with these scores."""
    tree = Tree(Segment((1,), "prompt"))
    for token, score in enumerate(scores):
        tree.add(tree.nodes[-1], Segment((token,), "")).score = score
    return tree.nodes


def totals(nodes, cost):
    """g of each node."""
    g = [0.0]
    for parent, child in pairwise(nodes):
        g.append(g[-1] + cost(parent, child))
    return g


@given(scores)
def test_h_is_in_the_unit_interval_and_0_at_the_root(scores):
    nodes = path(scores)
    assert r(nodes[0]) == 1 and shortfall(nodes[0]) == 0
    assert all(0 <= shortfall(node) <= 1 for node in nodes)


@pytest.mark.parametrize("cost", [drop, consistent, zero])
@given(scores=scores)
def test_g_never_falls_along_a_path(cost, scores):
    g = totals(path(scores), cost)
    assert all(a <= b for a, b in pairwise(g))


@given(scores)
def test_drop(scores):
    """f_t = h_t + the sum of the increases of h; a step changes f by 2 dh where h rises, by dh where it falls."""
    nodes = path(scores)
    h = [shortfall(node) for node in nodes]
    f = [a + b for a, b in zip(totals(nodes, drop), h, strict=True)]
    rises = [max(0.0, b - a) for a, b in pairwise(h)]
    assert f[-1] == pytest.approx(h[-1] + math.fsum(rises), abs=1e-9)
    for (h0, h1), (f0, f1) in zip(pairwise(h), pairwise(f), strict=True):
        assert f1 - f0 == pytest.approx(2 * (h1 - h0) if h1 > h0 else h1 - h0, abs=1e-9)


@given(scores)
def test_consistent(scores):
    """h(s) <= c(s, s') + h(s'); f_t = h_0 + the sum of the increases of h, and so never falls."""
    nodes = path(scores)
    h = [shortfall(node) for node in nodes]
    f = [a + b for a, b in zip(totals(nodes, consistent), h, strict=True)]
    for parent, child in pairwise(nodes):
        assert shortfall(parent) <= consistent(parent, child) + shortfall(child) + 1e-12
    rises = [max(0.0, b - a) for a, b in pairwise(h)]
    assert f[-1] == pytest.approx(h[0] + math.fsum(rises), abs=1e-9)
    assert all(b >= a - 1e-9 for a, b in pairwise(f))


@given(scores)
def test_zero_leaves_the_score_alone(scores):
    assert set(totals(path(scores), zero)) == {0.0}


def test_selection_rules_by_hand():
    """Q = 0.5, P = 0.25, N = 4, N_p = 9."""
    arm = Arm(0.5, 0.25, 4, 9)
    log = math.log(9)
    assert uct(arm, 2.0) == pytest.approx(0.5 + 2 * math.sqrt(log / 4))
    assert uct_fast(arm, 2.0) == uct(arm, 2.0)
    assert uct_offset(arm, 2.0, eps=1.0) == pytest.approx(0.5 + 2 * math.sqrt((1 + log) / 5))
    assert ucb(arm, 2.0) == pytest.approx(0.5 + 2 * math.sqrt(2 * log / 4))
    assert puct(arm, 2.0, base=10.0) == pytest.approx(0.5 + (math.log(2) + 2) * 0.25 * 3 / 5)
    assert p_ucb(arm, 2.0) == pytest.approx(0.5 + (math.log(2) + 2) * 0.25 * math.sqrt(log) / 5)


def test_selection_rules_before_the_first_visit():
    arm = Arm(0.5, 0.25, 0, 9)
    log = math.log(9)
    assert uct(arm, 2.0) == math.inf
    assert uct_fast(arm, 2.0) == pytest.approx(0.5 + 2 * math.sqrt(log))
    assert ucb(arm, 2.0, bonus=0.8) == 1.3
    assert puct(arm, 2.0, base=10.0) == pytest.approx(0.5 + (math.log(2) + 2) * 0.25 * 3)


@pytest.mark.parametrize("rule", [uct_fast, uct_offset, puct, p_ucb])
def test_selection_rules_at_a_parent_without_visits_go_by_value(rule):
    assert rule(Arm(0.5, 0.25, 0, 0), 0.0) == 0.5
    assert rule(Arm(0.6, 0.1, 0, 0), 1.0) > rule(Arm(0.5, 0.9, 0, 0), 1.0)


@pytest.mark.parametrize("rule", [uct, uct_fast, uct_offset, ucb, puct, p_ucb])
def test_more_visits_of_an_arm_lower_its_bonus_and_more_of_its_siblings_raise_it(rule):
    bonuses = [rule(Arm(0.0, 0.5, n, 20), 1.0) for n in range(1, 10)]
    assert all(a > b for a, b in pairwise(bonuses))
    bonuses = [rule(Arm(0.0, 0.5, 2, parent), 1.0) for parent in range(3, 12)]
    assert all(a < b for a, b in pairwise(bonuses))


def test_priors_by_hand():
    tree = Tree(Segment((1,), "prompt"))
    for token, logprobs in enumerate([(-1.0, -2.0), (-0.5,), (-3.0,)]):
        tree.add(tree.root, Segment((token,) * len(logprobs), str(token), logprobs))
    tree.add(tree.root, tree.root.children[2].segment)
    children = tree.root.children
    weights = [math.exp(-1.5), math.exp(-0.5), math.exp(-3.0)]
    assert by_logprob(children) == pytest.approx([w / sum(weights) for w in weights])
    assert by_times(children) == [0.25, 0.25, 0.5]
    assert uniform(children) == pytest.approx([1 / 3] * 3)
