"""Merging: groups part the steps; equal texts at threshold 0, everything at 2; by state where one is given."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.toy import Toy
from search.cluster import characters, words
from search.errors import ConfigError
from search.merge import HyperNode, Left, Merge, grow
from search.rules import worth
from search.steps import Tokens
from search.tree import Tree
from search.types import Finish, Sampling, Segment
from verifiers.toy import Hidden


def steps(*texts, ended=()):
    """Siblings with these texts; those at the places `ended` are complete."""
    tree = Tree(Segment((0,), "q"))
    for i, text in enumerate(texts):
        tree.add(tree.root, Segment((i,), text, (-1.0,), Finish.END if i in ended else Finish.STEP))
    return tree.root.children


def places(groups, nodes):
    return [[nodes.index(node) for node in group] for group in groups]


TEXTS = st.lists(st.sampled_from(["", "3+4=7", "4+3=7", "3*4=12", "so 3+4 is 7", "x"]), min_size=1, max_size=9)
EMBEDDINGS = st.sampled_from([words, characters])


@given(TEXTS, st.sets(st.integers(0, 8)), st.floats(0, 2), EMBEDDINGS)
def test_groups_part_the_steps_and_keep_their_order(texts, ended, threshold, embed):
    nodes = steps(*texts, ended=ended)
    groups = Merge(threshold, embed)(nodes)
    assert sorted(i for group in places(groups, nodes) for i in group) == list(range(len(nodes)))
    firsts = [group[0] for group in places(groups, nodes)]
    assert firsts == sorted(firsts)
    assert all(len({node.complete for node in group}) == 1 for group in groups)


@given(TEXTS, st.sets(st.integers(0, 8)))
def test_at_0_duplicates_alone_are_merged_and_at_2_everything(texts, ended):
    nodes = steps(*texts, ended=ended)
    kinds = {}
    for i, node in enumerate(nodes):
        kinds.setdefault((node.segment.text, node.complete), []).append(i)
    assert places(Merge(0, characters)(nodes), nodes) == list(kinds.values())
    assert len(Merge(2)(nodes)) == len({node.complete for node in nodes})


def test_the_threshold_is_a_distance_of_the_embedding_given():
    """On the unit circle, by hand: 1 - cos(20 degrees) = 0.06, of 40 degrees 0.23, of 60 degrees 0.5."""
    nodes = steps("0", "20", "60")

    def circle(texts):
        angles = np.radians([float(text) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    assert places(Merge(0.05, circle)(nodes), nodes) == [[0], [1], [2]]
    assert places(Merge(0.15, circle)(nodes), nodes) == [[0, 1], [2]]
    average = (0.5 + 1 - np.cos(np.radians(40))) / 2
    assert places(Merge(average - 0.01, circle)(nodes), nodes) == [[0, 1], [2]]
    assert places(Merge(average + 0.01, circle)(nodes), nodes) == [[0, 1, 2]]


def test_steps_that_come_to_the_same_state_are_one_whatever_they_say():
    nodes = steps("13-9=4 (left: 4 4 10)\n", "10+4=14", "I take 9 from 13 (left: 10 4 4)", "13-4=9 (left: 9 9)", "hm")
    assert [Left()(node) for node in nodes] == [("10", "4", "4"), None, ("10", "4", "4"), ("9", "9"), None]
    assert places(Merge(state=Left())(nodes), nodes) == [[0, 2], [1], [3], [4]]


def test_a_step_that_repeats_or_says_nothing_is_worthless():
    tree = Tree(Segment((0,), "q"))
    first = tree.add(tree.root, Segment((1,), "a\n"))
    again = tree.add(first, Segment((2,), "a"))
    end = tree.add(first, Segment((3,), "", (-1.0,), Finish.EMPTY))
    nothing = tree.add(tree.root, Segment((3,), "", (-1.0,), Finish.EMPTY))
    for node in (first, again, end, nothing):
        node.score = 0.7
    assert [worth(node) for node in (tree.root, first, again, end, nothing)] == [1.0, 0.7, 0.0, 0.7, 0.0]


async def test_growing_draws_round_the_members_and_parts_the_children(session):
    for seed in range(10):
        s = session(Toy("ab", length=9, end=0.2), Hidden("abbaabbab"), seed=seed, step=Sampling(until=Tokens(2)))
        wave = [HyperNode([s.root])]
        for merge in (Merge(0), Merge(0.6), Merge(2)):
            children = await grow(s, wave, 5, merge)
            for hyper in wave:
                drawn = [node for node in hyper.members for _ in range(node.draws)]
                assert [Counter(drawn)[node] for node in hyper.members] == [
                    5 // len(hyper.members) + (i < 5 % len(hyper.members)) for i in range(len(hyper.members))
                ]
                below = [node for child in hyper.children for node in child.members]
                assert len(below) == len(set(below))
                assert set(below) == {node for member in hyper.members for node in member.children}
                assert sum(child.share for child in hyper.children) == pytest.approx(1)
                for child in hyper.children:
                    assert child.value == max(worth(node) for node in child.members) == worth(child.members[0])
                    assert child.share == sum(node.times for node in child.members) / 5
                    assert len({node.notes["cluster"] for node in child.members}) == 1
            wave = [child for child in children if not child.complete]
            if not wave:
                break


async def test_dead_paths_are_nobodys_children(session):
    s = session(step=Sampling(until=Tokens(9), max_tokens=2))
    assert await grow(s, [HyperNode([s.root])], 3, Merge()) == []
    assert s.budget.spent.passes == 0


@pytest.mark.parametrize("threshold", [-0.1, 2.1])
def test_distances_that_are_none_are_refused(threshold):
    with pytest.raises(ConfigError) as caught:
        Merge(threshold)
    assert caught.value.field == "threshold"
