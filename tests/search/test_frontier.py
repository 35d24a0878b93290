"""The frontier: order, ties, the cap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import ConfigError
from search.frontier import Frontier
from search.tree import Tree
from search.types import Segment

keys = st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 2)), max_size=30)


def nodes(count):
    tree = Tree(Segment((1,), "prompt"))
    return [tree.add(tree.root, Segment((number,), "")) for number in range(count)]


@given(keys)
def test_least_first_and_equal_keys_by_age(keys):
    frontier = Frontier()
    for node, key in zip(nodes(len(keys)), keys, strict=True):
        assert frontier.push(node, *key) is None
    wanted = [number for _, number in sorted((key, number) for number, key in enumerate(keys))]
    assert len(frontier) == len(keys)
    if keys:
        assert frontier.peek().id == wanted[0] + 1
    assert [frontier.pop().id - 1 for _ in keys] == wanted
    assert not frontier


@given(keys, st.integers(1, 5))
def test_a_cap_keeps_the_best_and_says_what_it_dropped(keys, cap):
    frontier, dropped = Frontier(cap), []
    for node, key in zip(nodes(len(keys)), keys, strict=True):
        dropped += [frontier.push(node, *key)]
    wanted = [number for _, number in sorted((key, number) for number, key in enumerate(keys))]
    kept = [node.id - 1 for node in frontier.clear()]
    assert kept == wanted[:cap]
    assert sorted(node.id - 1 for node in dropped if node) == sorted(wanted[cap:])
    assert not frontier


def test_a_frontier_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="cap=0"):
        Frontier(0)
