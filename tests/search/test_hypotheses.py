"""Hypotheses of searches by tokens: their scores, who chooses among them, and what they need of a policy."""

import pytest

from search.algorithms.best_first_beam import BestFirstBeam
from search.algorithms.diverse_beam import DiverseTokenBeam
from search.algorithms.kcts import Kcts
from search.algorithms.lattice import LatticeSearch
from search.algorithms.stochastic_beam import StochasticBeam
from search.algorithms.token_beam import TokenBeam
from search.algorithms.token_mcts import TokenMcts
from search.errors import ConfigError
from search.hypotheses import best, chosen, forsake, logprob, normalised, take, taken
from search.run import run
from verifiers.toy import Hidden

BEAMS = (BestFirstBeam, DiverseTokenBeam, LatticeSearch, StochasticBeam, TokenBeam)
GUIDED = (TokenMcts(), Kcts(), *(beam(choose="verifier") for beam in BEAMS))


class Dumb:
    """A policy that lists no tokens."""

    async def sample(self, requests):
        raise AssertionError("it was asked")


@pytest.mark.parametrize("search", GUIDED, ids=lambda search: type(search).__name__)
async def test_a_policy_that_lists_no_tokens_is_refused_before_it_is_asked(search, session):
    with pytest.raises(ConfigError, match="next tokens"):
        await run(search, session(Dumb()))


@pytest.mark.parametrize("search", GUIDED, ids=lambda search: type(search).__name__)
async def test_without_a_verifier_it_is_refused_where_it_asks_one(search, session):
    s = session()
    s.verifier = None
    with pytest.raises(ConfigError) as caught:
        await run(search, s)
    assert caught.value.field == "verifier"
    assert s.budget.spent.policy_calls == 0


@pytest.mark.parametrize("search", [beam() for beam in BEAMS], ids=lambda search: type(search).__name__)
async def test_without_a_verifier_the_model_chooses(search, session, language):
    s = session(language(0))
    s.verifier = None
    assert (await run(search, s)).answer.complete


async def test_scores_add_up_and_are_noted_of_what_is_taken(session, language):
    s = session(language(0, end=1.0))
    first = await s.branch(s.root, 2)
    second = await s.branch(first[0], 4)
    assert logprob(s.root) == 0.0
    assert logprob(second[1]) == pytest.approx(first[0].segment.logprobs[0] + second[1].segment.logprobs[0])
    assert normalised(second[1], 0.5) == pytest.approx(logprob(second[1]) / 2**0.5)
    take(s, [first[0], *second])
    take(s, [first[0]])
    assert taken(s) == [node for node in second if node.complete]
    assert logprob(second[1]) == second[1].notes["logprob"]


async def test_who_chooses(session, language):
    s = session(language(0, "ab", length=1), Hidden("b"))
    ends = [(await s.branch(node, 1))[0] for node in await s.branch(s.root, 2)]
    likelier, other = ends
    assert best(ends, "model") is likelier
    assert best([], "model") is None
    assert await chosen(s, ends, "model") is likelier and not likelier.scored
    right = next(node for node in ends if node.prefix.text == "b")
    assert await chosen(s, ends, "verifier") is right


async def test_what_is_not_scored_comes_last(session, language):
    s = session(language(0, "ab", length=1), Hidden("x"))
    likelier, other = [(await s.branch(node, 1))[0] for node in await s.branch(s.root, 2)]
    await s.score([other])
    assert best([likelier, other], "verifier") is other


async def test_forsaken_are_those_nothing_was_kept_of(session, language):
    s = session(language(0))
    a, b, c = await s.branch(s.root, 3)
    below = await s.branch(a, 1)
    forsake(s, [a, b, c, b], [*below, c])
    assert [node.pruned for node in (a, b, c)] == [False, True, False]
