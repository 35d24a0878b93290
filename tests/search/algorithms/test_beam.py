"""Beam search and DVTS: exhaustive when wide, sampling when narrow, fair to what is finished."""

import random

import pytest

from policies.toy import Toy
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.errors import ConfigError
from search.events import Charged
from search.run import run
from search.steps import Tokens
from search.types import Sampling, Verdict
from verifiers.toy import Hidden

MANY = Toy("".join(map(chr, range(0x4E00, 0x4E00 + 3000))), length=4)  # draws rarely meet


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


def levels(tree):
    """Nodes by depth."""
    return [[node for node in tree if node.depth == depth] for depth in range(tree.depth + 1)]


async def test_of_unlimited_width_it_is_exhaustive(session, explicit):
    for seed in range(30):
        rng = random.Random(seed)
        world = explicit(rng, depth=4)
        world.scores = {word: rng.random() for word in world.cost}
        outcome = await run(Beam(beams=3**4, width=3), session(world, world))
        assert {node.prefix.text for node in outcome.tree} == {"", *world.cost}
        assert outcome.answer.score == max(world.scores[goal] for goal in world.goals)


async def test_the_best_prefixes_are_kept_and_no_others_go_on(session):
    for seed in range(20):
        outcome = await run(Beam(beams=3, width=3), session(Toy(length=5), Noisy(), seed=seed))
        for level in levels(outcome.tree)[1:-1]:
            kept = sorted(level, key=lambda node: -node.score)[:3]
            assert {node for node in level if node.children} == set(kept)
            assert {node for node in level if node.pruned} == set(level) - set(kept)


async def test_every_round_draws_for_every_place(session):
    outcome = await run(Beam(beams=4, width=3), session(Toy(length=5), Noisy()))
    for level in levels(outcome.tree)[:-1]:
        assert sum(node.draws for node in level) == 12
    assert outcome.spent.passes == len(outcome.tree) - 1


async def test_places_are_filled_in_turn_when_prefixes_are_few(session):
    outcome = await run(Beam(beams=5, width=2), session(Toy("ab", length=1), Noisy()))
    root, letters, _ = levels(outcome.tree)
    assert root[0].draws == 10
    assert sorted(node.draws for node in letters) == [4, 6]


async def test_of_width_one_it_is_independent_sampling(session):
    outcome = await run(Beam(beams=6, width=1), session(MANY, Noisy()))
    assert [len(level) for level in levels(outcome.tree)] == [1, 6, 6, 6, 6, 6]
    assert not any(node.pruned for node in outcome.tree)
    assert outcome.candidates == 6


async def test_one_beam_of_width_one_is_plain_sampling(session):
    outcome = await run(Beam(beams=1, width=1), session(Toy(end=0.3), Noisy()))
    assert [node.depth for node in outcome.tree] == list(range(len(outcome.tree)))
    assert outcome.answer is outcome.tree.nodes[-1]


async def test_completed_beams_keep_competing_and_are_never_extended(session):
    outcome = await run(Beam(beams=3, width=4), session(Toy(end=0.4, length=8), Hidden("abcabcab")))
    ended = outcome.tree.answers()
    assert len({node.depth for node in ended}) > 1
    assert not any(node.children for node in ended)
    assert any(node.pruned for node in ended)
    assert outcome.answer.score == max(node.score for node in ended)


async def test_a_completed_beam_holds_its_place(session, explicit):
    """Two of three places are taken by paths that end at once; the third alone is extended."""
    world = explicit(random.Random(0), width=3, depth=3)
    world.goals |= {"a", "b"}
    world.scores = {"a": 0.9, "b": 0.8, "c": 0.5} | {word: 0.4 for word in world.cost if len(word) > 1}
    seen = []
    await run(Beam(beams=3, width=1), session(world, world, sinks=[seen.append]))
    drawn = [event for event in seen if isinstance(event, Charged) and event.cost.policy_calls]
    assert [event.cost.generated for event in drawn] == [3] + [1] * (len(drawn) - 1)


async def test_beams_still_open_at_the_end_are_completed(session):
    outcome = await run(Beam(beams=3, width=3, depth=2), session(MANY, Noisy()))
    assert len(outcome.tree.answers()) == 3
    assert all(node.parent.depth == 2 and node.scored for node in outcome.tree.answers())


async def test_none_completed_is_no_answer_and_no_error(session):
    outcome = await run(Beam(), session(step=Sampling(until=Tokens(9), max_tokens=2)))
    assert (outcome.answer, outcome.stopped, outcome.candidates) == (None, "done", 0)


async def test_subtrees_do_not_compete(session):
    """Each keeps its best, even where all of another's steps are better."""
    outcome = await run(Beam(beams=4, width=3, subtrees=4), session(MANY, Noisy()))
    for depth, level in enumerate(levels(outcome.tree)[1:-1], start=1):
        kept = [node for node in level if node.children]
        assert len(kept) == 4
        if depth > 1:
            for node in kept:
                assert node.score == max(sibling.score for sibling in node.parent.children)
    _, first, *_ = levels(outcome.tree)
    groups = [first[i : i + 3] for i in range(0, 12, 3)]
    assert [max(group, key=lambda node: node.score) for group in groups] == [node for node in first if node.children]
    assert outcome.candidates == 4 * 3  # the last steps of every subtree, each with a score of its own


async def test_beams_of_one_subtree_compete_within_it(session):
    outcome = await run(Beam(beams=4, width=2, subtrees=2), session(MANY, Noisy()))
    _, first, *_ = levels(outcome.tree)
    for group in (first[:4], first[4:]):
        best = sorted(group, key=lambda node: -node.score)[:2]
        assert {node for node in group if node.children} == set(best)


async def test_subtrees_of_width_one_are_independent_samples(session):
    outcome = await run(Beam(beams=5, width=1, subtrees=5), session(MANY, Noisy()))
    assert [len(level) for level in levels(outcome.tree)] == [1, 5, 5, 5, 5, 5]


async def test_a_verifier_that_knows_finds_the_word_where_flat_sampling_does_not(session):
    word = Hidden("abbaabab")
    beam = await run(Beam(beams=4, width=4), session(Toy("ab", length=8), word))
    flat = await run(Flat(16), session(Toy("ab", length=8), word))
    assert beam.answer.prefix.text == "abbaabab" != flat.answer.prefix.text
    assert beam.spent.generated <= flat.spent.generated


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"beams": 0}, "beams"), ({"width": 0}, "width"), ({"depth": 0}, "depth"), ({"subtrees": 3}, "subtrees")],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Beam(**fields)
    assert caught.value.field == field
