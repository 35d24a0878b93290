"""Tree advantages: invariants, and a tree worked out by hand."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.toy import Toy
from search.advantage import segment_progress, trajectories, tree_advantages
from search.algorithms.treepo import TreePO
from search.run import run
from search.tree import Tree
from search.types import Finish, Segment


def tree_of(*words):
    """A tree with a letter per segment, and the leaf of each word, in order."""
    tree, leaves = Tree(Segment((0,), "q")), []
    for word in words:
        node = tree.root
        for i, letter in enumerate(word):
            finish = Finish.END if i == len(word) - 1 else Finish.STEP
            known = [child for child in node.children if child.segment.text == letter]
            node = (
                known[0]
                if known and finish is Finish.STEP
                else tree.add(node, Segment((ord(letter),), letter, finish=finish))
            )
        leaves.append(node)
    return tree, leaves


def test_by_hand():
    """Root: ab, ac, ad and b. Mean 1/2; below a: 1, 0, 0."""
    _, leaves = tree_of("ab", "ac", "ad", "b")
    rewards = [1.0, 0.0, 0.0, 1.0]
    average = tree_advantages(leaves, rewards)
    assert average == pytest.approx([(1 / 2 + 2 / 3) / 2, (-1 / 2 - 1 / 3) / 2, (-1 / 2 - 1 / 3) / 2, 1 / 2])
    sized = tree_advantages(leaves, rewards, strategy="group_size")
    assert sized == pytest.approx([(4 / 2 + 3 * 2 / 3) / 7, (-4 / 2 - 1) / 7, (-4 / 2 - 1) / 7, 1 / 2])


def test_flat_groups_may_be_left_out():
    _, leaves = tree_of("ab", "ac", "bb", "bc")
    rewards = [1.0, 1.0, 1.0, 0.0]
    kept = tree_advantages(leaves, rewards)
    left = tree_advantages(leaves, rewards, remove_flat=True)
    assert kept == pytest.approx([1 / 8, 1 / 8, (1 / 4 + 1 / 2) / 2, (-3 / 4 - 1 / 2) / 2])
    assert left == pytest.approx([1 / 4, 1 / 4, (1 / 4 + 1 / 2) / 2, (-3 / 4 - 1 / 2) / 2])
    assert tree_advantages(leaves, [1.0] * 4, remove_flat=True) == [0.0] * 4


WORDS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=8)


@given(WORDS, st.sampled_from(["average", "group_size"]), st.booleans())
def test_equal_rewards_are_no_advantage(words, strategy, remove):
    _, leaves = tree_of(*words)
    assert tree_advantages(leaves, [0.7] * len(leaves), strategy=strategy, remove_flat=remove) == pytest.approx(
        [0.0] * len(leaves)
    )


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.sampled_from(["average", "group_size"]))
def test_of_depth_1_it_is_the_reward_less_the_mean(rewards, strategy):
    _, leaves = tree_of(*"abcdefgh"[: len(rewards)])
    mean = sum(rewards) / len(rewards)
    wanted = [reward - mean for reward in rewards]
    found = tree_advantages(leaves, rewards, strategy=strategy)
    assert found == pytest.approx(wanted)
    assert sum(found) == pytest.approx(0)  # as at depth 0 of any tree


@given(WORDS, st.integers(0, 99))
def test_terms_of_depth_0_sum_to_zero(words, seed):
    """With all deeper groups singletons that is the whole: every word gets a first letter of its own."""
    _, leaves = tree_of(*(f"{'cdefghij'[i]}{word}" for i, word in enumerate(words)))
    rewards = [random.Random(f"{seed} {i}").random() for i in range(len(words))]
    assert sum(tree_advantages(leaves, rewards)) == pytest.approx(0)


@given(WORDS, st.integers(0, 99))
def test_progress_along_a_path_adds_up(words, seed):
    tree, leaves = tree_of(*words)
    rewards = {leaf: random.Random(f"{seed} {leaf.id}").random() for leaf in leaves}
    progress = segment_progress(leaves, [rewards[leaf] for leaf in leaves])
    assert set(progress) == set(tree.nodes[1:])
    totals = [rewards[leaf] - sum(progress[node] for node in leaf.path()[1:]) for leaf in leaves]
    assert totals == pytest.approx([totals[0]] * len(totals))  # the value of the root


def test_progress_by_hand():
    _, (ab, ac, b) = tree_of("ab", "ac", "b")
    progress = segment_progress([ab, ac, b], [1.0, 0.0, 0.0])
    assert progress == pytest.approx({ab.parent: 0.25, ab: 0.5, ac: -0.5, b: -0.25})
    assert segment_progress([ab, ac, b], [1.0, 0.0, 0.0], decay=0.5)[ab] == pytest.approx(0.25)


async def test_a_leaf_drawn_twice_is_two_trajectories(session):
    outcome = await run(TreePO(width=9, segment=1, first=None, divergence=3, depth=3), session(Toy("ab", length=2)))
    leaves = trajectories(outcome.tree)
    assert len(leaves) >= 9 > len(set(leaves))
    rewards = [float(leaf.prefix.text == "aa") for leaf in leaves]
    assert tree_advantages(leaves, rewards) != [0.0] * len(leaves)


def test_a_strategy_there_is_not():
    with pytest.raises(ValueError, match="neither"):
        tree_advantages([], [], strategy="sum")
