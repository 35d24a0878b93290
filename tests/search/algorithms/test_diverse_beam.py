"""Diverse beams: equal to plain implementations over steps and over tokens; plain beams where nothing is diverse."""

import math
import random
from collections import Counter

import pytest

from search.algorithms.beam import Beam
from search.algorithms.diverse_beam import DiverseBeam, DiverseTokenBeam
from search.algorithms.token_beam import TokenBeam
from search.budget import Budget
from search.errors import ConfigError
from search.rules import same_step, same_token
from search.run import run
from search.tree import Tree
from search.types import Segment, Verdict
from verifiers.toy import Hidden

END = "."


def plain_tokens(toy, beams, groups, strength, length):
    """Vijayakumar et al., algorithm 1, on the whole vocabulary; the words each group ends with and their log-probs."""
    forest = [[(0.0, 0.0, "")] for _ in range(groups)]
    for _ in range(length):
        taken = Counter()
        for number, beam in enumerate(forest):
            heap = [entry for entry in beam if entry[2].endswith(END)]
            fresh = []
            for rank, s, word in beam:
                if not word.endswith(END):
                    for letter, p in toy.distribution(word).items():
                        new = rank + math.log(p) - strength * taken[letter]
                        fresh.append((new, s + math.log(p), word + letter))
            forest[number] = sorted(heap + fresh, reverse=True)[: beams // groups]
            taken.update(entry[2][-1] for entry in forest[number] if entry in fresh)
    return [{word: s for _, s, word in beam if word.endswith(END)} for beam in forest]


@pytest.mark.parametrize(("beams", "groups"), [(4, 4), (6, 3), (4, 2), (3, 1)])
async def test_tokens_equal_a_plain_implementation(session, language, beams, groups):
    diverse = 0
    for seed in range(40):
        toy, strength = language(seed, "abcd", length=4), (0.3, 1.0, 5.0)[seed % 3]
        outcome = await run(DiverseTokenBeam(beams, groups, strength), session(toy, None))
        ended = plain_tokens(toy, beams, groups, strength, 5)
        together = {word: s for group in ended for word, s in group.items()}
        assert outcome.answer.prefix.text + END == max(together, key=together.get)
        taken = {node.prefix.text + END for node in outcome.tree.answers() if "rank" in node.notes}
        assert taken >= set(together)
        diverse += len(together) > beams // groups
    assert diverse == 0 if groups == 1 else diverse > 20


async def test_a_copy_that_counts_its_own_group_is_found_out(session, language, monkeypatch):
    import search.algorithms.diverse_beam as module

    right, wrong = module._Group.keep, 0

    def keep(self, places, ranks, others, strength, similar):
        return right(self, places, ranks, [*others, *self.beam], strength, similar)

    monkeypatch.setattr(module._Group, "keep", keep)
    for seed in range(40):
        toy = language(seed, "abcd", length=4)
        outcome = await run(DiverseTokenBeam(4, 2, 1.0), session(toy, None))
        together = {word: s for group in plain_tokens(toy, 4, 2, 1.0, 5) for word, s in group.items()}
        wrong += outcome.answer.prefix.text + END != max(together, key=together.get)
    assert wrong


async def test_tokens_in_one_group_are_a_vanilla_beam(session, language):
    for seed in range(30):
        toy = language(seed, length=6)
        one = await run(DiverseTokenBeam(3, 1, 5.0), session(toy, None))
        plain = await run(TokenBeam(3, stop="vanilla"), session(toy, None))
        assert one.answer.prefix == plain.answer.prefix


async def test_tokens_of_strength_0_are_one_group_many_times_at_the_cost_of_one(session, language):
    for seed in range(10):
        toy = language(seed, length=6)
        many = await run(DiverseTokenBeam(8, 4, 0.0), session(toy, None))
        one = await run(DiverseTokenBeam(2, 1, 0.0), session(toy, None))
        assert many.answer.prefix == one.answer.prefix
        assert many.spent.policy_calls == one.spent.policy_calls


async def test_the_penalty_is_no_part_of_the_answers_score(session, language):
    outcome = await run(DiverseTokenBeam(4, 4, 3.0), session(language(1), None))
    for node in outcome.tree.answers():
        if "rank" in node.notes:
            exact = math.fsum(step.logprobs[0] for step in node.prefix.steps)
            assert node.notes["logprob"] == pytest.approx(exact)
            assert node.notes["rank"] <= node.notes["logprob"] + 1e-9


async def test_the_verifier_may_choose(session, language):
    toy = language(4, "ab", length=2)
    s = session(toy, Hidden("bb"))
    outcome = await run(DiverseTokenBeam(16, 2, 0.5, choose="verifier"), s)
    assert outcome.answer.prefix.text == "bb"


async def test_tokens_when_the_budget_ends(session, language):
    s = session(language(5, length=30), None, budget=Budget({"policy_calls": 18}))
    outcome = await run(DiverseTokenBeam(6, 3), s)
    finished = [node for node in outcome.tree.answers() if "rank" in node.notes]
    assert outcome.stopped == "policy_calls" and finished
    assert outcome.answer is max(finished, key=lambda node: node.notes["logprob"])


def plain_steps(world, beams, groups, width, strength):
    """The words each group goes on from, over all depths, and those it ends with; every child of a word is drawn."""
    forest, expanded = [{"": 0.0} for _ in range(groups)], set()
    while any(word not in world.goals for beam in forest for word in beam):
        taken = Counter()
        for number, beam in enumerate(forest):
            ranks = {word: rank for word, rank in beam.items() if word in world.goals}
            fresh = {}
            for word in beam:
                if word not in world.goals:
                    expanded.add(word)
                    fresh |= {c: world.scores[c] - strength * taken[c[-1]] for c in world.children[word]}
            best = sorted([*ranks.items(), *fresh.items()], key=lambda item: -item[1])[: beams // groups]
            forest[number] = dict(best)
            taken.update(word[-1] for word, _ in best if word in fresh)
    return expanded, {word for beam in forest for word in beam}


@pytest.mark.parametrize(("beams", "groups"), [(4, 4), (4, 2), (6, 2), (2, 1)])
async def test_steps_equal_a_plain_implementation(session, explicit, beams, groups):
    apart = 0
    for seed in range(40):
        rng = random.Random(seed)
        world = explicit(rng, width=3, depth=4)
        world.scores = {word: rng.random() for word in world.cost}
        strength = (0.1, 0.4, 1.0)[seed % 3]
        search = DiverseBeam(beams, groups, width=3, strength=strength)
        outcome = await run(search, session(world, world))
        expanded, ended = plain_steps(world, beams, groups, 3, strength)
        assert {node.prefix.text for node in outcome.tree if node.children} == expanded
        kept = {node.prefix.text for node in outcome.tree.answers() if not node.pruned}
        assert kept >= ended
        apart += len(expanded) > len(plain_steps(world, beams, groups, 3, 0.0)[0])
    assert apart > 20 or groups == 1


async def test_steps_in_one_group_are_a_beam(session):
    class Noisy:
        async def score(self, prefixes):
            return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]

    for seed in range(10):
        one = await run(DiverseBeam(3, 1, width=3), session(verifier=Noisy(), seed=seed))
        plain = await run(Beam(3, 3), session(verifier=Noisy(), seed=seed))
        assert [node.prefix for node in one.tree] == [node.prefix for node in plain.tree]
        assert [node.pruned for node in one.tree] == [node.pruned for node in plain.tree]
        assert one.answer.prefix == plain.answer.prefix


async def test_steps_still_open_at_the_end_are_completed(session):
    outcome = await run(DiverseBeam(4, 4, width=2, depth=2), session())
    assert all(node.parent.depth == 2 for node in outcome.tree.answers())
    assert outcome.answer is not None


def test_likeness_is_of_text_for_steps_and_of_tokens_for_tokens():
    tree = Tree(Segment((0,), "q"))
    a, b = tree.add(tree.root, Segment((1, 2), "3+4\n\n")), tree.add(tree.root, Segment((3,), " 3+4\n\n"))
    c = tree.add(a, Segment((3,), " 3+4\n\n"))
    assert (same_step(a, b), same_step(a, c), same_step(a, tree.root)) == (1, 1, 0)
    assert (same_token(a, b), same_token(b, c)) == (0, 1)


@pytest.mark.parametrize("search", [DiverseBeam, DiverseTokenBeam])
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"beams": 0}, "beams"),
        ({"groups": 0}, "groups"),
        ({"beams": 4, "groups": 3}, "groups"),
        ({"strength": -1}, "strength"),
    ],
)
def test_settings_that_make_no_sense_are_refused(search, fields, field):
    with pytest.raises(ConfigError) as caught:
        search(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("search", "fields", "field"),
    [
        (DiverseBeam, {"width": 0}, "width"),
        (DiverseBeam, {"depth": 0}, "depth"),
        (DiverseTokenBeam, {"length": 0}, "length"),
        (DiverseTokenBeam, {"alpha": -1}, "alpha"),
        (DiverseTokenBeam, {"choose": "me"}, "choose"),
    ],
)
def test_other_settings_that_make_no_sense_are_refused(search, fields, field):
    with pytest.raises(ConfigError) as caught:
        search(**fields)
    assert caught.value.field == field
