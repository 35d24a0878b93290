"""Minimum-Bayes-risk selection: the vote it becomes, utilities by hand, and brute force."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import ConfigError
from search.mbr import MBR, rouge_l, token_f1
from search.select import Majority, SameText, Weighted
from search.tree import Tree
from search.types import Finish, Segment

SCORES = [0.1, 0.25, 0.5, 1.0]
drawn = st.lists(st.tuples(st.sampled_from(["a b", "a c", "b a", "c c d", ""]), st.sampled_from(SCORES)), min_size=1)


def answers(draws, wordings=1):
    """Nodes with the texts and scores given; equal texts are worded in several ways, and drawn again."""
    tree = Tree(Segment((1,), "prompt"))
    for number, (text, score) in enumerate(draws):
        words = text + " " * (number % wordings)
        logprobs = tuple(-0.01 * (number + i) for i in range(len(words)))
        tree.add(tree.root, Segment(tuple(map(ord, words)), words, logprobs, Finish.END)).score = score
    return tree.answers()


async def pick(selector, nodes):
    return await selector(nodes, SameText())


@given(drawn, st.booleans())
async def test_with_equality_it_is_the_majority_vote(draws, itself):
    nodes = answers(draws, wordings=3)
    assert (await pick(MBR(itself=itself), nodes)) is (await pick(Majority(), nodes))


@given(drawn)
async def test_with_equality_and_scores_it_is_the_weighted_vote(draws):
    nodes = answers(draws, wordings=3)
    ours, theirs = await pick(MBR(weights="score"), nodes), await pick(Weighted(), nodes)
    assert (ours and ours.prefix.text.strip()) == (theirs and theirs.prefix.text.strip())


@given(drawn, st.sampled_from([token_f1, rouge_l]), st.sampled_from(["equal", "score", "likelihood"]), st.booleans())
async def test_it_is_the_best_by_brute_force_over_single_draws(draws, utility, weights, itself):
    nodes = answers(draws, wordings=2)
    single = [node for node in nodes for _ in range(node.times) if node.prefix.text.strip()]
    w = {
        "equal": lambda node: 1.0,
        "score": lambda node: node.score,
        "likelihood": lambda node: math.exp(sum(node.segment.logprobs) / len(node.segment.logprobs)),
    }[weights]
    worth = {}
    for i, y in enumerate(single):
        worth[y] = sum(
            w(other) * utility(y.prefix.text, other.prefix.text) for j, other in enumerate(single) if itself or i != j
        )
    chosen = await pick(MBR(utility, weights, itself), nodes)
    assert (chosen is None) == (not single)
    if chosen:
        assert worth[chosen] == pytest.approx(max(worth.values()))


@given(drawn, st.randoms(use_true_random=False), st.sampled_from([None, token_f1, rouge_l]))
async def test_the_order_of_the_answers_decides_ties_only(draws, rng, utility):
    nodes = answers(draws, wordings=2)
    shuffled = rng.sample(nodes, len(nodes))
    chosen, other = await pick(MBR(utility), nodes), await pick(MBR(utility), shuffled)
    if chosen is None:
        assert other is None
        return
    u = utility or (lambda a, b: float(a.strip() == b.strip()))

    def worth(node):
        return sum(each.times * u(node.prefix.text, each.prefix.text) for each in nodes if each.prefix.text.strip())

    assert worth(chosen) == pytest.approx(worth(other))


@given(drawn, st.sampled_from([None, token_f1, rouge_l]), st.booleans())
async def test_one_more_of_the_winner_changes_nothing(draws, utility, itself):
    nodes = answers(draws)
    winner = await pick(MBR(utility, itself=itself), nodes)
    if winner:
        winner.times += 1
        assert (await pick(MBR(utility, itself=itself), nodes)) is winner


async def test_the_middle_wins_where_no_two_are_equal():
    """Three near each other and a far one: no vote tells them apart, the utility does."""
    nodes = answers([("z z z z", 1.0), ("a b c e", 1.0), ("a b c d", 1.0), ("a b f d", 1.0)])
    assert (await pick(Majority(), nodes)).prefix.text == "z z z z"
    assert (await pick(MBR(token_f1), nodes)).prefix.text == "a b c d"


async def test_weights_decide():
    nodes = answers([("a a", 0.1), ("a a", 0.1), ("b b", 0.9)], wordings=3)
    assert (await pick(MBR(token_f1), nodes)).prefix.text.strip() == "a a"
    assert (await pick(MBR(token_f1, "score"), nodes)).prefix.text.strip() == "b b"
    assert (await pick(MBR(token_f1, "score", itself=False), nodes)).prefix.text.strip() == "a a"  # alone, "b b" has 0
    assert MBR(weights="score").needs_scores and not MBR().needs_scores


def test_utilities_by_hand():
    # "the cat sat" / "the cat sat down": 3 common words of 3 and 4
    assert token_f1("the cat sat", "the cat sat down") == pytest.approx(2 * 3 / 7)
    assert token_f1("a a b", "a b b") == pytest.approx(2 * 2 / 6)
    assert token_f1("3+4", "4+3") == 1.0
    assert rouge_l("3+4", "4+3") == pytest.approx(2 * 1 / 6)
    assert rouge_l("a b c d", "a x c d") == pytest.approx(2 * 3 / 8)
    assert rouge_l("a b c", "c b a") == pytest.approx(2 * 1 / 6)
    assert (token_f1("", ""), rouge_l("", ""), token_f1("a", ""), rouge_l("", "a")) == (1.0, 1.0, 0.0, 0.0)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12))
def test_utilities_are_symmetric_and_order_only_lowers_them(a, b):
    for utility in (token_f1, rouge_l):
        assert utility(a, b) == utility(b, a)
        assert utility(a, a) == 1.0
    assert 0 <= rouge_l(a, b) <= token_f1(a, b) <= 1


async def test_nothing_to_choose_from_is_none():
    assert await pick(MBR(), []) is None
    assert await pick(MBR(token_f1), answers([("", 1.0)])) is None


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="weights"):
        MBR(weights="probability")
