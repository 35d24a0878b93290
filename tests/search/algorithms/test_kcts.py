"""KCTS: visit for visit a plain implementation; so many simulations per token; the prior alone where c is large."""

import math
import random
from collections import Counter, defaultdict

import pytest

from policies.toy import Toy
from search.algorithms.kcts import Kcts
from search.budget import Budget
from search.errors import ConfigError
from search.run import run
from search.types import Verdict
from verifiers.toy import Hidden

END = "."


def grade(seed, word):
    """A score for each prefix that has nothing to do with that of any other; a finished word is one of its own."""
    return round(random.Random(f"{seed} {word}").random(), 3)


class Prefixes:
    """The verifier that gives these grades."""

    def __init__(self, seed):
        self.seed = seed

    async def score(self, prefixes):
        ended = [END * (prefix.steps[-1].finish == "empty") for prefix in prefixes]
        return [Verdict(grade(self.seed, p.text + end)) for p, end in zip(prefixes, ended, strict=True)]


def plain(toy, seed, simulations, top, c, temperature=1.0):
    """The emitted word and the visits of every prefix; one more recursive than the search."""
    children, n, total = {}, defaultdict(int), defaultdict(float)

    def listed(word):
        row = sorted(toy.distribution(word).items(), key=lambda item: -item[1])[:top]
        weights = [p ** (1 / temperature) for _, p in row]
        children[word] = {word + letter: w / sum(weights) for (letter, _), w in zip(row, weights, strict=True)}

    def visit(word):
        if word in children:
            child = max(
                children[word],
                key=lambda y: (
                    (total[y] / n[y] if n[y] else 0.0) + c * children[word][y] * math.sqrt(n[word]) / (1 + n[y])
                ),
            )
            value = visit(child)
        else:
            value = grade(seed, word)
            if not word.endswith(END):
                listed(word)
        n[word] += 1
        total[word] += value
        return value

    word = ""
    listed(word)
    while not word.endswith(END):
        for _ in range(simulations):
            visit(word)
        word = max(children[word], key=lambda child: n[child])
    return word, {each: visits for each, visits in n.items() if visits}


def visits(tree):
    named = ((node.prefix.text + END * node.complete, node) for node in tree)
    return {name: node.visits for name, node in named if node.visits}


def emitted(outcome):
    nodes = [node for node in outcome.tree if "emitted" in node.notes]
    return sorted(nodes, key=lambda node: node.depth)


@pytest.mark.parametrize("settings", [{}, {"c": 0.5, "temperature": 2.0}, {"top": 2, "simulations": 7}])
async def test_visits_equal_a_plain_implementation(session, language, settings):
    for seed in range(25):
        toy, search = language(seed), Kcts(**{"simulations": 30, "top": 3, "c": 1.0} | settings)
        outcome = await run(search, session(toy, Prefixes(seed)))
        word, expected = plain(toy, seed, search.simulations, search.top, search.c, search.temperature)
        assert outcome.answer.prefix.text + END == word
        assert visits(outcome.tree) == expected


async def test_a_copy_without_its_subtree_is_found_out(session, language):
    class Forgetful(Kcts):
        async def simulate(self, s, last, tree, count):
            for node in s.tree:
                if last in node.path()[:-1] and not last.visits % self.simulations:
                    node.visits, node.total = 0, 0.0
            await super().simulate(s, last, tree, count)

    toy = language(3)
    outcome = await run(Forgetful(simulations=30, top=3, c=1.0), session(toy, Prefixes(3)))
    assert visits(outcome.tree) != plain(toy, 3, 30, 3, 1.0)[1]


async def test_so_many_simulations_per_token_and_the_most_visited_is_emitted(session, language):
    for seed in range(10):
        seen = []
        s = session(language(seed), Prefixes(seed), sinks=[seen.append])
        outcome = await run(Kcts(simulations=50, top=4), s)
        path = [outcome.tree.root, *emitted(outcome)]
        assert path == outcome.answer.path()
        backed = [event.path for event in seen if event.kind == "backed"]
        assert [ids[0] for ids in backed] == [node.id for node in path[:-1] for _ in range(50)]
        counts = Counter()
        for token, node in enumerate(path[1:]):
            counts.update(id for ids in backed[50 * token : 50 * (token + 1)] for id in ids)
            siblings = [counts[sibling.id] for sibling in node.parent.children]
            assert counts[node.id] == max(siblings)
            assert sum(siblings) == counts[node.parent.id] - (token > 0)  # one visit was its own


async def test_a_large_c_follows_the_prior(session, language):
    for seed in range(10):
        toy = language(seed)
        outcome = await run(Kcts(simulations=40, c=1e6), session(toy, Prefixes(seed)))
        word = ""
        for node in emitted(outcome):
            row = toy.distribution(word)
            assert node.prefix.text + END * node.complete == word + max(row, key=row.get)
            word = node.prefix.text
        first = await run(Kcts(simulations=40, c=1e6, length=1), session(toy, Prefixes(seed)))
        shares = [node.visits / 40 for node in first.tree.root.children]
        priors = [math.exp(node.segment.logprobs[0]) for node in first.tree.root.children]
        assert shares == pytest.approx(priors, abs=0.06)


async def test_a_classifier_that_knows_leads_to_its_word(session):
    for seed in range(10):
        toy = Toy(end=0.2)
        word = sorted(toy.probabilities())[seed * 31]
        outcome = await run(Kcts(simulations=50, top=4), session(toy, Hidden(word, strict=True)))
        assert outcome.answer.prefix.text == word


async def test_a_prefix_is_scored_and_listed_once(session, language):
    outcome = await run(Kcts(simulations=50, top=4), session(language(1), Prefixes(1)))
    assert outcome.spent.passes == sum(node.visits > 0 for node in outcome.tree) - 1
    assert outcome.spent.policy_calls == sum(bool(node.children) for node in outcome.tree)


async def test_waves_leave_the_counts_of_single_visits(session, language):
    for seed in range(10):
        search = Kcts(simulations=20, parallel=6, length=1)
        outcome = await run(search, session(language(seed), Prefixes(seed)))
        assert sum(node.visits for node in outcome.tree.root.children) == outcome.tree.root.visits == 20


async def test_when_the_budget_ends_no_virtual_visit_is_left(session, language):
    seen = []
    s = session(language(1), Prefixes(1), sinks=[seen.append], budget=Budget({"policy_calls": 20}))
    outcome = await run(Kcts(simulations=50, parallel=8), s)
    assert outcome.stopped == "policy_calls"
    backed = Counter(id for event in seen if event.kind == "backed" for id in event.path)
    assert {node.id: node.visits for node in outcome.tree if node.visits} == backed


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"simulations": 0}, "simulations"),
        ({"top": 0}, "top"),
        ({"length": 0}, "length"),
        ({"parallel": 0}, "parallel"),
        ({"c": -1}, "c"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Kcts(**fields)
    assert caught.value.field == field
