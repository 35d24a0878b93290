"""Stochastic beam search: exactly sampling without replacement, in order, whole or cut to the likeliest tokens."""

import math
from collections import Counter
from itertools import permutations

import pytest

from search.algorithms.stochastic_beam import StochasticBeam
from search.budget import Budget
from search.errors import ConfigError
from search.gumbel import gumbel
from search.run import run
from search.types import Sampling
from verifiers.toy import Hidden

RUNS = 3000


def without_replacement(words, k):
    """Probabilities of ordered samples of k different words."""
    exact = {}
    for sample in permutations(words, k):
        p, left = 1.0, 1.0
        for word in sample:
            p, left = p * words[word] / left, left - words[word]
        exact[sample] = p
    return exact


def surprise(counts, exact):
    """How many standard deviations chi-square lies above its mean, by Wilson and Hilferty; rare cells are merged."""
    total = sum(counts.values())
    common = [case for case in exact if exact[case] * total >= 8]
    cells = [(counts[case], exact[case] * total) for case in common]
    rest = total - sum(found for found, _ in cells), total - sum(expected for _, expected in cells)
    cells += [rest] if rest[1] >= 8 else []
    chi = sum((found - expected) ** 2 / expected for found, expected in cells)
    df = len(cells) - 1
    return ((chi / df) ** (1 / 3) - (1 - 2 / (9 * df))) / math.sqrt(2 / (9 * df))


async def samples(search, session, toy, runs=RUNS):
    """The words of each run, in order."""
    found = Counter()
    for seed in range(runs):
        tree = (await run(search, session(toy, None, seed=seed))).tree
        words = [node for node in tree.answers() if "gumbel" in node.notes]
        words.sort(key=lambda node: -node.notes["gumbel"])
        found[tuple(node.prefix.text for node in words[: search.beams])] += 1
    return found


async def test_ordered_samples_without_replacement(session, language):
    toy = language(0, "ab", length=2, end=0.8)
    exact = without_replacement(toy.probabilities(), 2)
    found = await samples(StochasticBeam(beams=2), session, toy)
    assert set(found) <= set(exact) and len(exact) == 30
    assert surprise(found, exact) < 3


async def test_cut_to_the_likeliest_tokens_it_samples_from_the_cut_model(session, language):
    toy = language(4, "abc", length=2, end=0.8)
    exact = without_replacement(toy.probabilities(Sampling(top_k=2)), 2)
    found = await samples(StochasticBeam(beams=2, top=2), session, toy)
    assert set(found) <= set(exact)
    assert surprise(found, exact) < 3


async def test_a_single_one_is_a_sample_of_the_model(session, language):
    toy = language(2, "ab", length=3)
    exact = {(word,): p for word, p in toy.probabilities().items()}
    found = await samples(StochasticBeam(beams=1, choose="sample"), session, toy)
    assert surprise(found, exact) < 3


@pytest.mark.parametrize("broken", ["fresh noise", "not conditioned"])
async def test_broken_copies_are_found_out(session, language, broken):
    class Broken(StochasticBeam):
        def perturbed(self, s, parent, children):
            right = super().perturbed(s, parent, children)
            if broken == "fresh noise":  # the children forget their parent's draw
                return {child: (phi, g + s.rng.gauss(0, 0.5)) for child, (phi, g) in right.items()}
            return {child: (phi, gumbel(s.rng, phi)) for child, (phi, _) in right.items()}

    toy = language(0, "ab", length=2, end=0.8)
    found = await samples(Broken(beams=2), session, toy, 1500)
    assert surprise(found, without_replacement(toy.probabilities(), 2)) > 3


async def test_the_best_child_has_the_draw_of_its_parent(session, language):
    for seed in range(20):
        outcome = await run(StochasticBeam(beams=200), session(language(seed, length=3), None, seed=seed))
        for node in outcome.tree:
            if node.children:
                noisy = [child.notes["gumbel"] for child in node.children]
                assert max(noisy) == pytest.approx(node.notes["gumbel"], abs=1e-6)
            assert node.notes["phi"] == pytest.approx(node.notes.get("logprob", 0.0))


async def test_a_beam_as_wide_as_the_language_holds_every_word_once(session, language):
    toy = language(1, length=3)
    outcome = await run(StochasticBeam(beams=500), session(toy, None))
    words = [node.prefix.text for node in outcome.tree.answers() if "gumbel" in node.notes]
    assert sorted(words) == sorted(toy.probabilities())
    assert outcome.answer.prefix.text == max(words, key=toy.probabilities().get)


async def test_the_verifier_may_choose_among_the_samples(session, language):
    s = session(language(1, length=3), Hidden("cab"))
    outcome = await run(StochasticBeam(beams=500, choose="verifier"), s)
    assert outcome.answer.prefix.text == "cab"


async def test_when_the_budget_ends_the_first_finished_sample_is_the_answer(session, language):
    s = session(language(3, length=30), None, budget=Budget({"policy_calls": 25}))
    outcome = await run(StochasticBeam(beams=6, choose="sample"), s)
    finished = [node for node in outcome.tree.answers() if "gumbel" in node.notes]
    assert outcome.stopped == "policy_calls" and len(finished) > 1
    assert outcome.answer is max(finished, key=lambda node: node.notes["gumbel"])


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"beams": 0}, "beams"), ({"top": 0}, "top"), ({"length": 0}, "length"), ({"choose": "me"}, "choose")],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        StochasticBeam(**fields)
    assert caught.value.field == field
