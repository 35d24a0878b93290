"""REBASE: widths against tables worked out by hand, and against a plain implementation."""

import math
import random
from dataclasses import dataclass

import pytest

from policies.toy import Toy
from search.algorithms.rebase import Rebase
from search.errors import ConfigError
from search.events import Noted
from search.run import run
from search.select import Best, Weighted
from search.shares import heaviest_first
from search.steps import Tokens
from search.types import Sampling, Verdict
from search.weights import softmax
from verifiers.toy import Hidden

# scores, T_b, B: 16 * (0.7311, 0.2689); 10 * (0.8360, 0.1131, 0.0508): e^0, e^-2, e^-2.8 over their sum
TABLE = [
    ([0.9, 0.7], 0.2, 16, [12, 4], [12, 4]),
    ([1.0, 0.8, 0.72], 0.1, 10, [8, 1, 1], [9, 1, 0]),
    ([0.5, 0.5, 0.5], 0.1, 4, [1, 1, 1], [2, 1, 1]),
    ([0.5, 0.5], 0.1, 3, [2, 2], [2, 1]),  # halves go up
    ([0.3, 0.3, 0.3, 0.3, 0.3], 0.1, 2, [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]),  # nobody would get any
    ([0.2, 0.9], 0.01, 7, [0, 7], [0, 7]),
]


@pytest.mark.parametrize(("scores", "temperature", "budget", "paper", "code"), TABLE)
def test_widths_by_hand(scores, temperature, budget, paper, code):
    assert Rebase(temperature=temperature).widths(scores, budget) == paper
    assert Rebase(temperature=temperature, rounding=heaviest_first).widths(scores, budget) == code


@dataclass(frozen=True)
class Linear(Rebase):
    """Broken: shares are scores, not their softmax."""

    def widths(self, scores, budget):
        return self.rounding([score / sum(scores) for score in scores], budget)


def test_a_broken_copy_does_not_agree_with_the_table():
    assert any(Linear(temperature=t).widths(scores, b) != paper for scores, t, b, paper, _ in TABLE)


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


async def plainly(s, samples, temperature, depth):
    """Widths of nodes by text, one call per draw; words of different letters, so that no step is drawn twice."""
    level, budget, widths = [s.root] * samples, samples, {}
    for _ in range(depth):
        drawn = {node: await s.expand(node, level.count(node)) for node in dict.fromkeys(level)}
        children = [child for steps in drawn.values() for child in steps for _ in range(child.times)]
        budget -= len([child for child in children if child.terminal])
        open_ = [child for child in children if not child.terminal]
        if budget <= 0 or not open_:
            break
        scores = await s.score(open_)
        mass = sum(math.exp(score / temperature) for score in scores)
        level = []
        for child, score in zip(open_, scores, strict=True):
            width = int(budget * math.exp(score / temperature) / mass + 0.5)
            widths[child.prefix.text] = widths.get(child.prefix.text, 0) + width
            level += [child] * width
    return widths


async def test_every_round_is_that_of_a_plain_implementation(session):
    letters = Toy("abcdefghijkl", length=6, end=0.25)
    for seed in range(15):
        outcome = await run(Rebase(samples=12, temperature=0.3), session(letters, Noisy(), seed=seed))
        found = {n.prefix.text: n.notes["width"] for n in outcome.tree if "width" in n.notes}
        assert found == await plainly(session(letters, Noisy(), seed=seed), 12, 0.3, 40)


async def test_the_budget_is_the_number_of_solutions(session):
    for seed in range(20):
        search = Rebase(samples=9, rounding=heaviest_first)
        outcome = await run(search, session(Toy(end=0.3), Noisy(), seed=seed), Weighted())
        assert sum(node.times for node in outcome.tree.answers()) == 9
        assert {node.terminal for node in outcome.tree if not node.children and not node.pruned} == {True}


async def test_draws_of_a_round_are_what_solutions_have_left(session):
    seen = []
    await run(Rebase(samples=9, rounding=heaviest_first), session(Toy(end=0.3), Noisy(), sinks=[seen.append]))
    rounds, widths = [], {}
    for event in seen:
        if isinstance(event, Noted):
            widths[event.node] = event.numbers["width"]
        elif widths and event.kind not in ("pruned", "noted"):
            rounds, widths = [*rounds, sum(widths.values())], {}
    assert rounds and rounds == sorted(rounds, reverse=True) and rounds[0] <= 9


async def test_a_low_temperature_follows_the_best_alone(session):
    outcome = await run(Rebase(samples=6, temperature=1e-3), session(Toy(), Hidden("abcab")), Best())
    grown = [node for node in outcome.tree if node.children]
    assert [node.depth for node in grown] == list(range(len(grown)))


async def test_what_is_open_at_the_end_is_completed(session):
    outcome = await run(Rebase(samples=6, depth=2), session(Toy(length=5), Hidden("abcab")))
    assert {node.depth for node in outcome.tree.answers()} == {3}
    cut = await run(Rebase(), session(step=Sampling(until=Tokens(9), max_tokens=2)))
    assert cut.answer is None and cut.spent.policy_calls == 1


@pytest.mark.parametrize(("field", "value"), [("samples", 0), ("depth", 0), ("temperature", 0.0)])
def test_settings_that_make_no_sense_are_refused(field, value):
    with pytest.raises(ConfigError) as caught:
        Rebase(**{field: value})
    assert caught.value.field == field


def test_softmax_of_large_numbers():
    assert softmax([1e4, 1e4 - 1]) == pytest.approx([0.73105858, 0.26894142])
