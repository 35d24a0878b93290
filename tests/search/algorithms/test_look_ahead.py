"""Look-ahead in beam search and DVTS: a step is worth what the greedy steps after it are."""

import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from policies.toy import Toy
from search.algorithms.beam import Beam
from search.errors import ConfigError
from search.run import run
from search.types import Verdict


class Noisy:
    """Scores that have nothing to do with anything."""

    async def score(self, prefixes):
        return [Verdict(random.Random(prefix.digest).random()) for prefix in prefixes]


class Recording:
    """Passes requests on and keeps them."""

    def __init__(self, inner):
        self.inner, self.requests = inner, []

    async def sample(self, requests):
        self.requests += requests
        return await self.inner.sample(requests)


@dataclass(frozen=True)
class Shortsighted(Beam):
    """Broken: what is ahead is drawn and not looked at."""

    async def foresee(self, s, steps, greedy):
        await super().foresee(s, steps, greedy)
        return {node: node for node in steps}


def misleading(explicit):
    """Words of four letters: `a` looks best at once, what follows `b` at each second letter."""
    world = explicit(SimpleNamespace(random=lambda: 0.5), depth=4)
    world.scores = dict.fromkeys(world.cost, 0.1)
    world.scores |= {"a": 0.9, "c": 0.8, "b": 0.2}
    world.scores |= {word: 0.95 for word in world.cost if word.startswith("b") and len(word) > 1}
    return world


SETTINGS = [{"beams": 1}, {"beams": 2}, {"beams": 2, "subtrees": 2}]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("look_ahead", [1, 2])
async def test_it_sees_through_a_step_that_misleads(session, explicit, setting, look_ahead):
    world = misleading(explicit)
    plain, ahead, broken = [
        await run(search(width=3, **setting, **fields), session(world, world))
        for search, fields in (
            (Beam, {}),
            (Beam, {"look_ahead": look_ahead}),
            (Shortsighted, {"look_ahead": look_ahead}),
        )
    ]
    if setting["beams"] == 1:
        assert plain.answer.prefix.text[0] == broken.answer.prefix.text[0] == "a"
    assert ahead.answer.prefix.text[0] == "b" and ahead.answer.score == 0.95
    first = [node for node in ahead.tree if node.depth == 1]
    assert {node.prefix.text: node.notes["ahead"] for node in first} == {"a": 0.1, "b": 0.95, "c": 0.1}
    assert not any("ahead" in node.notes for node in plain.tree)


@pytest.mark.parametrize("steps", [1, 2, 9])
async def test_a_step_is_worth_the_score_of_the_text_ahead(session, explicit, steps):
    """Against a walk over the table: `steps` times the first child, or to the end."""
    for seed in range(20):
        rng = random.Random(seed)
        world = explicit(rng, depth=4)
        world.scores = {word: rng.random() for word in world.cost}
        outcome = await run(Beam(beams=2, width=3, look_ahead=steps), session(world, world))
        judged = [node for node in outcome.tree if "ahead" in node.notes]
        for node in judged:
            word = node.prefix.text
            for _ in range(steps):
                word = world.children[word][0] if word in world.children else word
            assert node.notes["ahead"] == world.scores[word]
        for parents in range(1, outcome.tree.depth):
            level = [node for node in judged if node.depth == parents]
            best = sorted(level, key=lambda node: -node.notes["ahead"])[:2]
            grown = {node for node in level if any("ahead" in child.notes for child in node.children)}
            assert grown <= set(best)


async def test_steps_ahead_are_nodes_of_the_tree_and_paid_for_once(session):
    policy = Recording(Toy("ab", length=6))
    plain = await run(Beam(beams=3, width=3), session(Toy("ab", length=6), Noisy()))
    ahead = await run(Beam(beams=3, width=3, look_ahead=2), session(policy, Noisy()))
    assert ahead.spent.generated == sum(node.times * len(node.segment.tokens) for node in ahead.tree.nodes[1:])
    assert ahead.spent.generated > plain.spent.generated
    greedy = [request for request in policy.requests if request.sampling.temperature == 0]
    assert greedy and {len(request.seeds) for request in greedy} == {1}
    assert len({request.prefix.digest for request in greedy}) == len(greedy)  # no greedy step is drawn twice


async def test_an_answer_seen_ahead_is_an_answer(session, explicit):
    """The beam follows one path; the words seen at the end of the others are candidates, judged already."""
    world = explicit(SimpleNamespace(random=lambda: 0.5), depth=3)
    world.scores = dict.fromkeys(world.cost, 0.1) | {"caa": 0.8, "baa": 0.7}
    outcome = await run(Beam(beams=1, width=3, look_ahead=2), session(world, world))
    assert outcome.answer.prefix.text == "caa"
    answers = {node.prefix.text: node.score for node in outcome.tree.answers()}
    assert answers == {"aaa": 0.1, "baa": 0.7, "caa": 0.8, "cab": 0.1, "cac": 0.1, "cba": 0.1, "cca": 0.1}
    assert outcome.spent.passes == len(answers)  # no step whose future is known is judged itself


def test_a_negative_look_ahead_is_refused():
    with pytest.raises(ConfigError) as caught:
        Beam(look_ahead=-1)
    assert caught.value.field == "look_ahead"
