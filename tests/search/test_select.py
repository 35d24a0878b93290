"""Selection: votes, weights, ties."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from search.select import Best, First, Majority, SameText, Weighted
from search.tree import Tree
from search.types import Finish, Segment

SELECTORS = (Best(), First(), Majority(), Weighted())


def answers(*drawn: tuple[str, float], wordings: int = 1):
    """Nodes with the texts and scores given; a text may be worded in several ways that mean the same."""
    tree = Tree(Segment((1,), "prompt"))
    for number, (text, score) in enumerate(drawn):
        words = text + " " * (number % wordings)
        node = tree.add(tree.root, Segment(tuple(map(ord, words)), words, (0.0,) * len(words), Finish.END))
        node.score = score
    return tree.answers()


drawn = st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.sampled_from([0.1, 0.25, 0.5, 1.0])), min_size=1)


async def pick(selector, nodes):
    return await selector(nodes, SameText())


@given(drawn)
async def test_majority_is_the_most_frequent_text(draws):
    counts = Counter(text for text, _ in draws if text)
    chosen = await pick(Majority(), answers(*draws, wordings=3))
    if counts:
        assert counts[chosen.prefix.text.strip()] == max(counts.values())
    else:
        assert chosen is None


@given(st.lists(st.sampled_from(["a", "b", "c", ""]), min_size=1), st.sampled_from([0.25, 1.0]))
async def test_with_equal_scores_weighted_is_majority(texts, score):
    nodes = answers(*((text, score) for text in texts), wordings=3)
    assert (await pick(Weighted(), nodes)) is (await pick(Majority(), nodes))


@given(drawn)
async def test_weighted_has_the_largest_sum_of_scores(draws):
    nodes = answers(*draws, wordings=3)
    sums = Counter()
    for node in nodes:
        if text := node.prefix.text.strip():
            sums[text] += node.score * node.times
    chosen = await pick(Weighted(), nodes)
    assert (chosen is None) == (not sums)
    if chosen:
        assert sums[chosen.prefix.text.strip()] == pytest.approx(max(sums.values()))


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
@given(drawn)
async def test_one_more_of_the_winner_changes_nothing(selector, draws):
    nodes = answers(*draws)
    winner = await pick(selector, nodes)
    assume(winner is not None)
    winner.times += 1
    assert (await pick(selector, nodes)) is winner


@pytest.mark.parametrize("selector", [Best(), Majority(), Weighted()], ids=repr)
@given(drawn, st.randoms(use_true_random=False))
async def test_the_order_of_the_answers_decides_ties_only(selector, draws, rng):
    nodes = answers(*draws, wordings=3)
    shuffled = rng.sample(nodes, len(nodes))
    one, other = await pick(selector, nodes), await pick(selector, shuffled)
    assert (one is None) == (other is None)
    if one and one.prefix.text.strip() != other.prefix.text.strip():
        assert weight(selector, one, nodes) == pytest.approx(weight(selector, other, nodes))


def weight(selector, chosen, nodes):
    """What counts for the answer of `chosen`."""
    alike = [node for node in nodes if node.prefix.text.strip() == chosen.prefix.text.strip()]
    if selector == Best():
        return chosen.score
    return sum(node.times * (node.score if selector == Weighted() else 1) for node in alike)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
async def test_one_answer_is_the_answer_and_none_is_none(selector):
    (only,) = answers(("a", 0.0))
    assert (await pick(selector, [only])) is only
    assert (await pick(selector, [])) is None


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
async def test_ties_go_to_the_first_seen(selector):
    nodes = answers(("a", 0.5), ("b", 0.5), ("c", 0.5))
    assert (await pick(selector, nodes)) is nodes[0]


async def test_votes_count_draws_and_not_nodes():
    nodes = answers(("a", 0.9), ("b", 0.4), ("b", 0.4), ("b", 0.4))
    assert len(nodes) == 2
    assert (await pick(Majority(), nodes)).prefix.text == "b"
    assert (await pick(Weighted(), nodes)).prefix.text == "b"
    assert (await pick(Best(), nodes)).prefix.text == "a"


async def test_answers_without_a_score_come_last():
    nodes = answers(("a", float("nan")), ("b", 0.0))
    assert (await pick(Best(), nodes)).prefix.text == "b"
    assert (await pick(Weighted(), [nodes[0]])).prefix.text == "a"


async def test_the_best_worded_of_equal_answers_stands_for_a_weighted_vote():
    nodes = answers(("a", 0.2), ("a", 0.6), ("b", 0.7), wordings=2)
    assert (await pick(Weighted(), nodes)) is nodes[1]


async def test_a_grader_decides_what_is_equal():
    class Lengths:
        async def classes(self, texts):
            return [len(text) for text in texts]

    nodes = answers(("a", 0.9), ("bb", 0.1), ("cc", 0.1))
    assert (await Majority()(nodes, Lengths())).prefix.text == "bb"
