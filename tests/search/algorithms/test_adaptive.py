"""Adaptive best-of-k: each problem alone draws what the allocation over all problems gives it."""

from dataclasses import dataclass

import pytest

from policies.toy import Toy
from search.algorithms.adaptive import AdaptiveBestOfK
from search.algorithms.flat import Flat
from search.allocate import allocate, binary, price
from search.errors import ConfigError
from search.run import run
from search.select import First
from search.types import Cost, Verdict

CHANCES = (0.01, 0.08, 0.2, 0.35, 0.5, 0.77, 0.98)


@dataclass(frozen=True)
class Value:
    """A verifier that knows the chance of a bare prompt."""

    success: float

    async def score(self, prefixes):
        return [Verdict(self.success if not prefix.steps else 0.5, (), Cost(passes=1)) for prefix in prefixes]


@dataclass(frozen=True)
class Unweighted(AdaptiveBestOfK):
    """A broken copy: the likelier the success, the more draws."""

    async def __call__(self, s):
        await self.draw(s, round(self.predict(s.root.prefix) * self.most))


@pytest.mark.parametrize("average", [2, 4, 8])
@pytest.mark.parametrize("least", [0, 1])
async def test_it_draws_what_the_batch_would_give_it(session, even, average, least):
    rows, budget = [binary(p, 32) for p in CHANCES], average * len(CHANCES)
    at = price(rows, budget, least)
    for kind, same in ((AdaptiveBestOfK, True), (Unweighted, False)):
        draws = []
        for p in CHANCES:
            outcome = await run(kind(even(p), at, least=least, most=32), session(), First())
            draws.append(outcome.tree.root.completions)
        assert (draws == allocate(rows, budget, least)) is same
        assert sum(draws) <= budget or not same


async def test_a_constant_prediction_is_uniform_best_of_k(session, even):
    at = price([binary(0.3, 16)] * 5, 5 * 6)
    outcome = await run(AdaptiveBestOfK(even(0.3), at, most=16), session(), First())
    assert outcome.candidates == 6


@pytest.mark.parametrize("parallel", [None, 1, 4])
async def test_its_draws_are_those_of_best_of_n(session, even, parallel):
    search = AdaptiveBestOfK(even(0.2), price=0.04, parallel=parallel)
    outcome, flat = await run(search, session()), await run(Flat(8), session())
    assert outcome.tree.root.notes == {"success": 0.2, "draws": 8.0}  # 0.2 * 0.8 ** 7 >= 0.04 > 0.2 * 0.8 ** 8
    assert outcome.answer.prefix == flat.answer.prefix
    assert [node.prefix for node in outcome.tree] == [node.prefix for node in flat.tree]
    assert outcome.spent == flat.spent


async def test_the_verifier_may_predict(session):
    search = AdaptiveBestOfK(None, price=0.04, least=2)
    outcome = await run(search, session(verifier=Value(0.2)), First())
    assert (outcome.candidates, outcome.spent.passes) == (8, 1)
    with pytest.raises(ConfigError, match="verifier"):
        toy = session(verifier=Value(0.2))
        toy.verifier = None
        await run(search, toy)
    assert AdaptiveBestOfK(lambda prompt: 0.2, price=0.1).needs == ()


async def test_nothing_is_drawn_where_nothing_pays(session, even):
    outcome = await run(AdaptiveBestOfK(even(0.01), price=0.5, least=0), session())
    assert (outcome.answer, outcome.spent) == (None, Cost())


async def test_it_finds_more_than_uniform_draws_at_the_same_cost(session, even):
    """Problems of known difficulty: words of a language, found or not among k draws."""
    language = Toy("ab", length=6, end=0.3)
    words = language.probabilities()
    goals = sorted(words, key=words.get)[::8]
    at = price([binary(words[goal], 64) for goal in goals], 8 * len(goals))
    found = {"adaptive": 0, "uniform": 0}
    draws = {"adaptive": 0, "uniform": 0}
    for goal in goals:
        for seed in range(40):
            for name, search in (("adaptive", AdaptiveBestOfK(even(words[goal]), at, least=0)), ("uniform", Flat(8))):
                outcome = await run(search, session(language, seed=seed), First())
                found[name] += any(node.prefix.text == goal for node in outcome.tree.answers())
                draws[name] += outcome.candidates
    assert draws["adaptive"] <= draws["uniform"]
    assert found["adaptive"] > 1.15 * found["uniform"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"price": -0.1}, "price"),
        ({"price": float("nan")}, "price"),
        ({"price": 0.1, "most": 0}, "most"),
        ({"price": 0.1, "least": 5, "most": 4}, "least"),
        ({"price": 0.1, "least": -1}, "least"),
        ({"price": 0.1, "parallel": 0}, "parallel"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, name):
    with pytest.raises(ConfigError) as caught:
        AdaptiveBestOfK(None, **fields)
    assert caught.value.field == name
