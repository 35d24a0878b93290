"""Draft replicas beside target replicas: the same draws, whatever the drafts are, and none where they do not pay."""

from __future__ import annotations

import asyncio
from functools import partial

import pool_doubles as doubles
import pytest

from experiments.tasks.reference import Arithmetic
from policies.embedded import Embedded
from policies.pool.drafted import AGAIN, ENOUGH, Choice, DraftedPolicy
from policies.pool.local import Local
from policies.toy import Toy
from search.algorithms.beam import Beam
from search.algorithms.mcts import MCTS
from search.errors import ConfigError
from search.session import Session
from search.steps import Delimiter
from search.types import Cost, Prefix, Request, Sampling
from verifiers.toy import Hidden

TARGET = partial(Embedded, "models/policy", "float64", memory="64MB", threads=1)
DRAFT = partial(Embedded, memory="64MB", threads=1)
INLINE = Local(workers="inline", replicas=2, spill=1)


def part(front):
    """The parts of inline replicas."""
    return [slot.replica._work._part for slot in front.pool._slots.values()]


def forced(front):
    """Always drafts, whether or not it pays."""
    front.choice.forced = True
    for policy in part(front):
        policy.engine.speculation.governor.forced = True


@pytest.mark.parametrize(("model", "heat", "most"), [("draft", 0.0, 0.85), ("draft", 0.8, 0.85), ("policy", 0.8, 0.25)])
async def test_draws_are_those_of_the_target_alone(model, heat, most):
    """Guesses come from the small model, or for comparison from the target's own, which are right."""
    items = Arithmetic().items()[:4]
    drafts = Local(workers="inline", replicas=1).policy(partial(DRAFT, f"models/{model}"))
    async with TARGET() as alone, DraftedPolicy(INLINE, partial(TARGET, speculate="told"), drafts) as front:
        forced(front)
        sampling = Sampling(heat, max_tokens=60)
        prompts = [Prefix(alone.prompt(Arithmetic().messages(item))) for item in items]
        requests = [Request(prompt, sampling, (i, i + 100)) for i, prompt in enumerate(prompts)]
        wanted = await alone.sample(requests)
        found = [reply for (reply,) in await asyncio.gather(*(front.sample([r]) for r in requests))]
        for reply, expected in zip(found, wanted, strict=True):
            assert [s.tokens for s in reply.segments] == [s.tokens for s in expected.segments]
            assert [s.finish for s in reply.segments] == [s.finish for s in expected.segments]
            assert reply.cost.generated == expected.cost.generated and reply.cost.drafted > 0
        counters = [policy.engine.speculation.counters for policy in part(front)]
        assert front.drafts.counters.items == len(requests) == front.counters.items
        passes, tokens = sum(each.passes for each in counters), sum(reply.cost.generated for reply in found)
        accepted = sum(each.accepted["told"] for each in counters)
        assert accepted > 0 and passes < most * tokens, "fewer forwards than tokens"


async def test_searches_grow_the_same_trees():
    step = Sampling(0.8, max_tokens=40, until=Delimiter())

    async def tree(policy, search, prompt):
        session = Session(prompt, policy, Hidden("5"), step=step, whole=step.to_the_end(60))
        await search(session)
        return [(node.id, node.segment.tokens, node.segment.finish, node.times) for node in session.tree]

    drafts = Local(workers="inline", replicas=1).policy(partial(DRAFT, "models/draft"))
    async with TARGET() as alone, DraftedPolicy(INLINE, partial(TARGET, speculate="told"), drafts) as front:
        forced(front)
        prompt = alone.prompt(Arithmetic().messages(Arithmetic().items()[0]))
        for search in (Beam(2, 2, depth=3), MCTS(3, 2)):
            assert await tree(front, search, prompt) == await tree(alone, search, prompt)


async def test_a_draft_that_fails_is_no_draft():
    drafts = Local(workers="inline", replicas=1, retries=0).policy(partial(doubles.Poisoned, kind="fault"))
    async with TARGET() as alone, DraftedPolicy(INLINE, partial(TARGET, speculate="told"), drafts) as front:
        forced(front)
        item = Arithmetic().items()[0]
        (other,) = await front.sample([Request(Prefix(alone.prompt(Arithmetic().messages(item))), Sampling(), (1,))])
        poisoned = Request(Prefix(alone.prompt([{"role": "user", "content": "poison"}])), Sampling(max_tokens=8), (1,))
        (found,), (wanted,) = await front.sample([poisoned]), await alone.sample([poisoned])
        assert found.segments[0].tokens == wanted.segments[0].tokens and other.cost != Cost()


def test_what_is_faster_is_chosen_and_the_other_tried_again():
    for faster in (False, True):
        choice, taken = Choice(), []
        for _ in range(3 * AGAIN):
            taken.append(way := choice())
            choice.observe(way, 10, 1.0 if way is faster else 2.0)
        assert taken[: 2 * ENOUGH] == [False] * ENOUGH + [True] * ENOUGH
        others = sum(way is not faster for way in taken[2 * ENOUGH :])
        assert 0 < others <= 3 * ENOUGH


def test_a_policy_that_takes_no_guesses_is_refused():
    with pytest.raises(ConfigError, match=r"pool.drafter.*Toy takes no guesses"):
        DraftedPolicy(INLINE, Toy, INLINE.policy(Toy))


def test_the_setting_builds_both_pools():
    from experiments.models import Models

    local = {"_target_": "policies.pool.local.Local", "workers": "inline", "replicas": 2, "draft": {"replicas": 1}}
    policy = {"_target_": "policies.embedded.Embedded", "model": "models/policy", "speculate": "ngram"}
    made = Models.of({**local, "drafter": {"model": "models/draft"}}).policy("policy", policy)
    assert isinstance(made, DraftedPolicy)
    assert made.part.speculate == ["told", "ngram"] and made.drafts.part.speculate is None
    assert (made.part.model, made.drafts.part.model) == ("models/policy", "models/draft")
    assert (made.hosting.replicas, made.drafts.hosting.replicas) == (2, 1)
    assert not isinstance(Models.of({**local, "drafter": None}).policy("policy", policy), DraftedPolicy)
    with pytest.raises(ConfigError, match=r"pool.drafter='draft' is not valid"):
        Models.of({**local, "drafter": "draft"})
