"""Flat sampling: best-of-N, self-consistency, first finish; against the known distribution of the toy language."""

import pytest

from policies.toy import Toy
from search.algorithms.flat import Flat
from search.errors import ConfigError
from search.run import run
from search.select import Best, First, Majority, Weighted
from search.steps import Delimiter, Tokens
from search.types import Sampling
from verifiers.toy import Hidden

LANGUAGE = Toy(
    "ab",
    length=4,
    chain={"": {"a": 0.7, "b": 0.3}, "a": {"a": 0.2, "b": 0.6, ".": 0.2}, "b": {"a": 0.2, "b": 0.2, ".": 0.6}},
)


async def test_draws_follow_the_distribution(session):
    """Chi-square over all words; 0.999 quantile of the distribution with that many degrees of freedom."""
    n, words = 4000, LANGUAGE.probabilities()
    outcome = await run(Flat(n), session(LANGUAGE), First())
    counts = {node.prefix.text: node.times for node in outcome.tree.answers()}
    assert sum(counts.values()) == n and set(counts) <= set(words)
    statistic = sum((counts.get(word, 0) - n * p) ** 2 / (n * p) for word, p in words.items())
    freedom = len(words) - 1
    quantile = freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3  # Wilson and Hilferty
    assert statistic < quantile


async def test_self_consistency_converges_to_the_mode(session):
    words = LANGUAGE.probabilities()
    mode, second = sorted(words, key=words.get, reverse=True)[:2]
    assert words[mode] - words[second] > 0.03
    found = [(await run(Flat(400), session(LANGUAGE, seed=seed), Majority())) for seed in range(10)]
    assert {outcome.answer.prefix.text for outcome in found} == {mode}
    assert {outcome.spent.passes for outcome in found} == {0}


async def test_best_of_n_finds_more_the_more_it_draws(session):
    word = Hidden("abab")
    scores = [(await run(Flat(n), session(LANGUAGE, word), Best())).answer.score for n in (1, 4, 16, 256)]
    assert scores == sorted(scores)  # the draws of a smaller n are the first of a larger
    assert scores[-1] == 1


async def test_selection_makes_the_method(session):
    word = Hidden("ab")
    chosen = {}
    for select in (Best(), Majority(), Weighted(), First()):
        outcome = await run(Flat(64), session(LANGUAGE, word), select)
        chosen[type(select)] = outcome.answer.prefix.text
        assert outcome.spent.passes == (len(outcome.tree.answers()) if select.needs_scores else 0)
        assert outcome.candidates == 64
    assert chosen[Best] == "ab"


async def test_one_at_temperature_0_is_greedy(session):
    greedy = Sampling(temperature=0.0)
    outcome = await run(Flat(1), session(LANGUAGE, whole=greedy), First())
    assert [outcome.answer.prefix.text] == list(LANGUAGE.probabilities(greedy)) == ["ab"]


@pytest.mark.parametrize("parallel", [None, 1, 5, 100])
async def test_waves_change_nothing_but_the_order_of_work(session, parallel):
    whole = await run(Flat(12), session(LANGUAGE), First())
    waves = await run(Flat(12, parallel=parallel), session(LANGUAGE), First())
    assert waves.tree.to_json() == whole.tree.to_json()


async def test_first_finish_costs_n_times_the_shortest(session):
    """With steps of one token, exactly, as in the paper; the answer is the shortest of the n chains."""
    lengths = set()
    for seed in range(30):
        outcome = await run(Flat(4, first_finish=True), session(LANGUAGE, seed=seed))
        length = len(outcome.answer.prefix.tokens) - 1  # but for the prompt
        assert outcome.spent.generated == 4 * length
        assert all(node.depth >= length for node in outcome.tree.answers())
        lengths.add(length)
    assert len(lengths) > 1


async def test_first_finish_by_longer_steps_costs_as_many_rounds_as_the_shortest_has_steps(session):
    step = Sampling(until=Tokens(2))
    for seed in range(30):
        outcome = await run(Flat(4, first_finish=True), session(LANGUAGE, seed=seed, step=step))
        assert outcome.spent.policy_calls == 4 * outcome.answer.depth
        ended = [node for node in outcome.tree.answers() if node.prefix.text]
        assert len(outcome.answer.prefix.tokens) == min(len(node.prefix.tokens) for node in ended)


async def test_the_first_of_one_is_plain_sampling(session):
    outcome = await run(Flat(1, first_finish=True), session(LANGUAGE))
    assert [node.depth for node in outcome.tree] == list(range(len(outcome.tree)))
    assert outcome.answer is outcome.tree.nodes[-1]


async def test_ties_go_to_the_chain_drawn_first(session):
    outcome = await run(Flat(6, first_finish=True), session(Toy("ab", length=3)))
    assert outcome.answer is outcome.tree.answers()[0]


@pytest.mark.parametrize("finishers", [2, 4])
async def test_a_majority_of_the_first_to_finish(session, finishers):
    """All chains up to the round in which enough have ended, and the selection among these."""
    stopped = 0
    for seed in range(20):
        race = await run(Flat(6, first_finish=True, finishers=finishers), session(LANGUAGE, seed=seed), Majority())
        whole = await run(Flat(6, first_finish=True, finishers=6), session(LANGUAGE, seed=seed), Majority())
        ends = sorted(node.depth for node in whole.tree.answers() for _ in range(node.times))
        last = ends[finishers - 1]
        assert race.candidates == sum(depth <= last for depth in ends) >= finishers
        assert {node.prefix for node in race.tree} == {node.prefix for node in whole.tree if node.depth <= last}
        assert race.answer in race.tree.answers()
        stopped += race.spent.generated < whole.spent.generated
    assert stopped > 5


async def test_chains_that_were_cut_or_have_no_text_do_not_win(session):
    cut = await run(Flat(3, first_finish=True), session(step=Sampling(until=Tokens(9), max_tokens=2)))
    assert cut.answer is None and cut.spent.policy_calls == 3
    silent = Toy("a", length=2, chain={"": {"a": 0.1, ".": 0.9}, "a": {"a": 1.0}})
    outcome = await run(Flat(40, first_finish=True), session(silent))
    assert any(not node.prefix.text for node in outcome.tree.answers())
    assert outcome.answer.prefix.text == "aa"


async def test_chains_end_somewhere(session):
    outcome = await run(Flat(2, first_finish=True, depth=3), session(Toy(length=100)))
    assert (outcome.answer, outcome.tree.depth) == (None, 3)


async def test_first_finish_takes_any_boundary(session):
    letters = Toy("ab;", length=9, end=0.2)
    outcome = await run(Flat(3, first_finish=True), session(letters, step=Sampling(until=Delimiter((";",)))))
    assert all(";" in node.segment.text for node in outcome.answer.path()[1:-1])


@pytest.mark.parametrize("field", ["n", "parallel", "finishers", "depth"])
def test_settings_that_make_no_sense_are_refused(field):
    with pytest.raises(ConfigError) as caught:
        Flat(**{field: 0})
    assert caught.value.field == field


def test_more_cannot_finish_than_start():
    with pytest.raises(ConfigError, match="finishers"):
        Flat(3, first_finish=True, finishers=4)
