"""Trees: growth, duplicates, the forms they are kept in."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import ConfigError
from search.tree import Tree
from search.types import Cost, Finish, Segment

finishes = st.sampled_from(Finish)
numbers = st.floats(allow_nan=False, allow_infinity=False)
segments = st.builds(
    lambda tokens, finish: Segment(tuple(tokens), "".join(map(chr, tokens)), (-0.1,) * len(tokens), finish),
    st.lists(st.integers(97, 99), min_size=1, max_size=2),
    finishes,
)


@st.composite
def trees(draw):
    """Any tree an algorithm could leave behind, statistics and all."""
    tree = Tree(Segment((1, 2), "prompt"), "question")
    for _ in range(draw(st.integers(0, 8))):
        tree.add(draw(st.sampled_from([node for node in tree if not node.terminal])), draw(segments))
    for node in tree:
        node.score = draw(st.just(math.nan) | st.floats(0, 1))
        node.step_scores = tuple(draw(st.lists(st.floats(0, 1), max_size=2)))
        node.draws, node.completions, node.visits = draw(st.tuples(*[st.integers(0, 9)] * 3))
        node.total, node.pruned = draw(numbers), draw(st.booleans())
        node.notes = draw(st.dictionaries(st.sampled_from("fgh"), numbers))
        node.cost = draw(st.builds(Cost, generated=st.integers(0, 9), seconds=st.floats(0, 9)))
    return tree


@given(trees())
def test_json_and_networkx_keep_everything(tree):
    data = tree.to_json()
    written = json.loads(json.dumps(data, allow_nan=False))
    assert written == data
    again = Tree.from_json(written)
    assert again.to_json() == data
    assert [node.prefix for node in again] == [node.prefix for node in tree]
    assert Tree.from_networkx(tree.to_networkx()).to_json() == data


@given(trees())
def test_ids_are_positions_and_children_belong_to_their_parents(tree):
    assert [node.id for node in tree] == list(range(len(tree)))
    for node in tree:
        assert all(child.parent is node and child.id > node.id for child in node.children)
        assert node.path()[0] is tree.root and node.path()[-1] is node
        assert len(node.path()) == node.depth + 1
        tokens = tuple(token for one in node.path() for token in one.segment.tokens)
        assert node.prefix.tokens == tokens  # what was fed and sampled, and nothing else


@given(st.lists(segments, max_size=30))
def test_a_segment_drawn_twice_is_one_node_counted_twice(drawn):
    tree = Tree(Segment((1,), "prompt"))
    nodes = [tree.add(tree.root, segment) for segment in drawn]
    assert sum(child.times for child in tree.root.children) == len(drawn)
    assert len(set(nodes)) == len({(segment.tokens, segment.finish) for segment in drawn}) == len(tree.root.children)
    for node, segment in zip(nodes, drawn, strict=True):
        assert (node.segment.tokens, node.segment.finish) == (segment.tokens, segment.finish)


def test_segments_without_tokens_are_told_apart_by_their_text():
    tree = Tree(Segment((), "prompt"))
    one, other = (tree.add(tree.root, Segment((), text)) for text in "ab")
    assert one is not other


@pytest.mark.parametrize(
    ("finish", "terminal", "complete"),
    [
        (Finish.STEP, False, False),
        (Finish.END, True, True),
        (Finish.EMPTY, True, True),
        (Finish.LENGTH, True, False),
    ],
)
def test_four_ways_to_end(finish, terminal, complete):
    tree = Tree(Segment((1,), "prompt"))
    node = tree.add(tree.root, Segment((2,), "", (0.0,), finish))
    assert (node.terminal, node.complete) == (terminal, complete)
    assert tree.answers() == [node] * complete
    assert tree.answers(truncated=True) == [node] * (terminal and not complete)


def test_the_root_is_never_terminal_whatever_its_prompt_says():
    assert not Tree(Segment((1,), "prompt", (), Finish.END)).root.terminal


def test_adding_does_not_slow_down_with_the_number_of_siblings():
    tree = Tree(Segment((1,), "prompt"))
    for token in range(10_000):  # quadratic look-up would take minutes
        tree.add(tree.root, Segment((token,), "", (0.0,)))
    assert tree.add(tree.root, Segment((9_999,), "", (0.0,))).times == 2


def test_table_has_a_row_per_node_and_a_column_per_note():
    tree = Tree(Segment((1, 2), "prompt"))
    child = tree.add(tree.root, Segment((3, 4, 5), "abc", (-1.0, -2.0, -3.0), Finish.END))
    child.score, child.notes = 0.5, {"f": 2.0}
    child.visits, child.total = 2, 1.5
    table = tree.table()
    assert {len(column) for column in table.values()} == {2}
    assert table["parent"].tolist() == [-1, 0]
    assert table["tokens"].tolist() == [2, 3]
    assert table["logprob"].tolist() == [0.0, -6.0]
    assert table["finish"].tolist() == ["step", "end"]
    assert table["value"].tolist() == [0.0, 0.75]
    np.testing.assert_equal(table["score"], [math.nan, 0.5])
    np.testing.assert_equal(table["notes.f"], [math.nan, 2.0])


def test_a_form_of_another_version_is_refused():
    data = Tree(Segment((1,), "prompt")).to_json()
    data["graph"]["version"] = 99
    with pytest.raises(ConfigError, match="version=99"):
        Tree.from_json(data)


def test_events_that_do_not_begin_at_the_beginning_are_refused():
    with pytest.raises(ValueError, match="Started"):
        Tree.from_events([])
