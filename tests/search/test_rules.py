"""Rules, against the formulas of the papers."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.rules import consistent, drop, r, shortfall, zero
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
