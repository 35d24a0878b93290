"""Guided decoding: its worth by hand, the law of its draws, and what it becomes at its ends."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest

from policies.toy import Toy
from search.algorithms.guided import Guided
from search.errors import ConfigError
from search.run import run
from search.session import gather
from search.types import Finish, Verdict
from verifiers.toy import Hidden

MANY = Toy("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), length=5)


class Marks:
    """Scores from a table, by the text of the path."""

    def __init__(self, marks):
        self.marks = marks

    async def score(self, prefixes):
        return [Verdict(self.marks[prefix.text]) for prefix in prefixes]


CHAIN = Toy("ab", length=2, chain={"": {"a": 0.8, "b": 0.2}, "a": {"a": 0.5, "b": 0.5}, "b": {"b": 1.0}})
MARKS = Marks({"a": 0.2, "b": 0.9, "aa": 0.4, "ab": 0.6, "bb": 1.0})

# E = sqrt(p * c), p the geometric mean of the probabilities of the letters
BY_HAND = {
    "a": math.sqrt(0.8 * 0.2),
    "b": math.sqrt(0.2 * 0.9),
    "aa": math.sqrt(math.sqrt(0.8 * 0.5) * 0.4),
    "ab": math.sqrt(math.sqrt(0.8 * 0.5) * 0.6),
    "bb": math.sqrt(math.sqrt(0.2 * 1.0) * 1.0),
}


class OfTheStep(Guided):
    """Broken: the likelihood of the last step stands for that of the path."""

    def worth(self, node):
        return math.sqrt(math.exp(node.segment.mean_logprob) * node.score)


class Unrooted(Guided):
    """Broken: a product, not a mean."""

    def worth(self, node):
        return super().worth(node) ** 2


async def noted(session, search):
    s = session(CHAIN, MARKS)
    await search(s)
    return {node.prefix.text: node.notes["worth"] for node in s.tree if "worth" in node.notes}


async def test_worth_by_hand(session):
    assert await noted(session, Guided(beams=2, width=20, depth=2)) == pytest.approx(BY_HAND)


@pytest.mark.parametrize("broken", [OfTheStep, Unrooted])
async def test_broken_copies_are_worth_something_else(session, broken):
    assert await noted(session, broken(beams=2, width=20, depth=2)) != pytest.approx(BY_HAND, abs=1e-3)


async def test_beams_are_drawn_by_the_softmax_of_their_worth(session):
    """One beam of two letters, a thousand times: the share of "b" is that of softmax(E / tau)."""
    search = Guided(beams=1, width=12, depth=1, temperature=0.1)
    runs = 1000
    chosen = Counter()
    for seed in range(runs):
        s = session(CHAIN, MARKS, seed=seed)
        await search(s)
        (kept,) = [node for node in s.root.children if not node.pruned]
        if len(s.root.children) == 2:
            chosen[kept.segment.text] += 1
    p = 1 / (1 + math.exp((BY_HAND["a"] - BY_HAND["b"]) / 0.1))
    n = chosen.total()
    assert abs(chosen["b"] - n * p) < 3.3 * math.sqrt(n * p * (1 - p))
    assert abs(chosen["b"] - n / 2) > 3.3 * math.sqrt(n / 4)  # neither of them is even


def logprobs(node):
    """Of the tokens of the path, each step being one."""
    return [step.logprobs[0] for step in node.prefix.steps]


async def test_near_temperature_zero_it_keeps_the_worthiest(session):
    class Noisy:
        async def score(self, prefixes):
            return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]

    worth = {0.0: lambda node: node.score, 0.5: lambda node: node.score * math.exp(sum(logprobs(node)) / node.depth)}
    for (likelihood, key), tau in zip(worth.items(), (2e-3, 4e-5), strict=True):
        s = session(MANY, Noisy())
        await Guided(beams=3, width=3, depth=4, likelihood=likelihood, temperature=tau)(s)
        for depth in range(1, 5):
            level = [node for node in s.tree if node.depth == depth]
            assert {node for node in level if not node.pruned} == set(sorted(level, key=key)[-3:])


async def test_it_finds_the_word_where_the_verifier_knows(session):
    search = Guided(beams=4, width=8, depth=8, likelihood=0.2, temperature=0.005)
    language, word = Toy("ab", length=8), Hidden("abbaabab")
    outcomes = await gather(run(search, session(language, word, seed=seed)) for seed in range(20))
    # 1 word of 256; without a guide 32 draws find it in 12 % of the runs
    assert sum(outcome.answer.prefix.text == "abbaabab" for outcome in outcomes) >= 18
    blind = replace(search, likelihood=1.0)
    outcomes = await gather(run(blind, session(language, word, seed=seed)) for seed in range(20))
    assert sum(outcome.answer.prefix.text == "abbaabab" for outcome in outcomes) <= 5


async def test_what_has_ended_keeps_its_place_and_all_the_rest_is_completed(session):
    search = Guided(beams=3, width=3, depth=3)
    for seed in range(10):
        s = session(Toy("abc", length=6, end=0.4), seed=seed)
        await search(s)
        kept = [node for node in s.tree if "worth" in node.notes and not node.pruned]
        ends = [node for node in kept if node.complete]
        assert not any(node.children for node in ends)
        leaves = [node for node in s.tree.answers() if "worth" not in node.notes]
        assert len(ends) + sum(node.times for node in leaves) <= 3
        for depth in range(1, 4):
            assert sum(node.depth == depth or (node.complete and node.depth < depth) for node in kept) <= 3


async def test_steps_that_were_cut_are_dead(session):
    class Cut(Toy):
        async def sample(self, requests):
            replies = await super().sample(requests)
            return [
                replace(r, segments=tuple(replace(x, finish=Finish.LENGTH) if x.text == "a" else x for x in r.segments))
                for r in replies
            ]

    s = session(Cut("ab", length=3), Marks({"b": 0.5}))
    await Guided(beams=2, width=8, depth=1)(s)
    assert [node.segment.text for node in s.tree if node.scored] == ["b"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"beams": 0}, "beams"),
        ({"width": 0}, "width"),
        ({"depth": 0}, "depth"),
        ({"likelihood": 1.5}, "likelihood"),
        ({"temperature": 0.0}, "temperature"),
        ({"anneal": 0.0}, "anneal"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Guided(**fields)
    assert caught.value.field == field


async def test_it_needs_a_verifier(session):
    s = session()
    s.verifier = None
    with pytest.raises(ConfigError, match="verifier"):
        await run(Guided(), s)
