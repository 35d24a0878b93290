"""VM-MCTS against a plain search of its own, and the counts the paper asks for."""

import math
import random
from collections import Counter

import pytest

from policies.toy import Toy
from search.algorithms.vm_mcts import VMMCTS
from search.backups import arms
from search.errors import ConfigError
from search.rules import uct_offset
from search.run import run
from search.steps import Tokens
from search.types import Sampling, Verdict
from verifiers.toy import Hidden


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.text + str(len(prefix.steps))).random()) for prefix in prefixes]


def plain(tree, iterations, decision, c):
    """Visits by a search of its own over the lines that `tree` holds: recursive, sums and counts in dictionaries."""
    n, total, visible = Counter(), Counter(), {}

    def lines(node):
        return [child for child in node.children if "line" in child.notes]

    def simulate(node):
        """Visits and values that come up from below `node`."""
        if visible.get(node.id):
            arm = max(
                visible[node.id],
                key=lambda a: total[a.id] / n[a.id] + c * math.sqrt((1 + math.log(n[node.id])) / (0.1 + n[a.id])),
            )
            count, value = simulate(arm)
        elif node.terminal:
            count, value = 1, node.score
        else:
            children = lines(node)
            for child in children:
                n[child.id] = int(child.notes["line"])
                total[child.id] = n[child.id] * child.score
            visible[node.id] = sorted(children, key=lambda child: -child.score)[:decision]
            count, value = sum(n[x.id] for x in children), sum(total[x.id] for x in children)
        n[node.id] += count
        total[node.id] += value
        return count, value

    for _ in range(iterations):
        simulate(tree.root)
    return {node.id: n[node.id] for node in tree if n[node.id]}


async def equals_the_plain_search(session, kind):
    for seed in range(8):
        s = session(Toy(length=4, end=0.1), Noisy(), seed=seed)
        expand = s.expand

        async def marked(node, k, expand=expand):
            before = {child: child.times for child in node.children}
            children = await expand(node, k)
            for child in children:
                child.notes["line"] = child.times - before.get(child, 0)
            return children

        s.expand = marked
        outcome = await run(kind(iterations=15, samples=4, decision=2, c=0.3), s)
        wanted = plain(outcome.tree, 15, 2, 0.3)
        assert {node.id: node.visits for node in outcome.tree if node.visits} == wanted


async def test_visits_equal_those_of_a_plain_search(session):
    await equals_the_plain_search(session, VMMCTS)


class Wide(VMMCTS):
    """Broken: every child stays visible."""

    def __post_init__(self):
        object.__setattr__(self, "decision", 99)


class Timid(VMMCTS):
    """Broken: what was seen often is explored more."""

    def __post_init__(self):
        object.__setattr__(self, "rule", lambda arm, c: uct_offset(arm, 0.0) - c / (1 + arm.n))


@pytest.mark.parametrize("broken", [Wide, Timid])
async def test_broken_searches_are_caught_by_the_plain_one(session, broken):
    with pytest.raises(AssertionError):
        await equals_the_plain_search(session, broken)


@pytest.mark.parametrize("parallel", [1, 4])
async def test_every_expansion_stores_its_samples_and_shows_the_best(session, parallel):
    outcome = await run(VMMCTS(samples=5, decision=3, parallel=parallel), session(Toy(length=6, end=0.1), Noisy()))
    expanded = [node for node in outcome.tree if "drawn" in node.notes]
    assert len(expanded) > 3
    for node in expanded:
        lines = [child for child in node.children if child.visits]
        ended = sum(child.times for child in node.children if child.terminal) - node.completions
        assert node.draws == 5 and ended + sum(line.completions for line in lines) == 5
        assert arms(node) == [line for line in lines if line in sorted(lines, key=lambda x: -x.score)[:3]]
        assert all(line.completions == line.times for line in lines if not line.terminal)


@pytest.mark.parametrize("parallel", [1, 4])
async def test_a_value_is_the_mean_over_the_lines_drawn_below(session, parallel):
    outcome = await run(VMMCTS(parallel=parallel, samples=3), session(Toy(length=12), Noisy()))
    for node in outcome.tree:
        if node.visits:
            below = [line for line in outcome.tree if line.visits and node in line.path() and line.parent]
            drawn = [line.score for line in below for _ in range(line.times)]  # long words: no sample is a line
            assert node.visits == len(drawn)
            assert node.total == pytest.approx(math.fsum(drawn))


async def test_the_best_scored_whole_sample_is_the_answer(session):
    outcome = await run(VMMCTS(), session(Toy(length=5), Hidden("abcab")))
    answers = outcome.tree.answers()
    assert all(node.scored for node in answers)
    assert outcome.answer.score == max(node.score for node in answers)


async def test_a_sample_in_two_pieces_is_a_sample(session):
    """First line and rest together have the distribution of a completion drawn at one go."""
    toy = Toy("ab", length=3, end=0.25)
    found = Counter()
    for seed in range(300):
        outcome = await run(VMMCTS(iterations=1, samples=8), session(toy, Noisy(), seed=seed))
        for node in outcome.tree.answers():
            found[node.prefix.text] += node.times
    exact = toy.probabilities()
    assert sum(found.values()) == 2400 and found.keys() <= exact.keys()
    chi = sum((found[word] - 2400 * p) ** 2 / (2400 * p) for word, p in exact.items() if p)
    assert chi < 27.7  # 13 degrees of freedom, one in a hundred


async def test_lines_that_were_cut_are_dropped_and_their_leaf_is_worth_nothing(session):
    cut = {"step": Sampling(until=Tokens(3), max_tokens=2)}
    outcome = await run(VMMCTS(iterations=4), session(Toy(length=9), **cut))
    assert (outcome.tree.root.visits, outcome.tree.root.total, outcome.answer) == (4, 0.0, None)


@pytest.mark.parametrize("field", ["iterations", "samples", "decision", "parallel", "depth"])
def test_settings_that_make_no_sense_are_refused(field):
    with pytest.raises(ConfigError) as caught:
        VMMCTS(**{field: 0})
    assert caught.value.field == field
    with pytest.raises(ConfigError, match="c="):
        VMMCTS(c=-0.1)
