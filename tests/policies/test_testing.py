"""The laws of a policy bite: each policy here breaks one, and is caught."""

from dataclasses import replace

import pytest

from policies.testing import check_policy
from policies.toy import Toy
from search.errors import PolicyError
from search.steps import Tokens
from search.types import Cost, Finish, Prefix, Reply, Sampling, Segment

PROMPT = Prefix(Segment((1,), "q"))
PREFIXES = [PROMPT, PROMPT + Segment((97,), "a", (0.0,))]
STEP = Sampling(until=Tokens(2))


class Broken(Toy):
    """A toy whose replies pass through `spoil(number of the call, requests, replies)`."""

    calls = 0

    def __init__(self, spoil):
        super().__init__()
        object.__setattr__(self, "spoil", spoil)

    async def sample(self, requests):
        object.__setattr__(self, "calls", self.calls + 1)
        return self.spoil(self.calls, requests, await super().sample(requests))


def each(change):
    """Spoils every segment."""
    return lambda call, requests, replies: [
        replace(reply, segments=tuple(change(call, segment) for segment in reply.segments)) for reply in replies
    ]


def other_seeds(change):
    """Draws with other seeds than asked for."""

    def spoil(call, requests, replies):
        changed = [replace(request, seeds=change(call, request)) for request in requests]
        return [Toy()._reply(request) for request in changed]

    return spoil


def never_cold(call, requests, replies):
    """Takes no notice of the temperature."""
    return [Toy()._reply(replace(request, sampling=replace(request.sampling, temperature=1.0))) for request in requests]


@pytest.mark.parametrize(
    ("law", "spoil"),
    [
        ("empty_batch", lambda call, requests, replies: replies or [Reply(())]),
        ("keeps_the_contract", lambda call, requests, replies: replies * 2),
        ("segments came back", lambda call, requests, replies: [replace(r, segments=r.segments[1:]) for r in replies]),
        ("log-probabilities", each(lambda call, s: replace(s, logprobs=s.logprobs[1:]))),
        ("finishes_for_a_reason", each(lambda call, s: replace(s, finish=Finish.LENGTH))),
        ("finishes_for_a_reason", each(lambda call, s: replace(s, finish=Finish.STEP))),
        ("counts_what_it_samples", lambda call, requests, replies: [replace(r, cost=Cost()) for r in replies]),
        ("honours_seeds", other_seeds(lambda call, request: tuple(s + call for s in request.seeds))),
        ("honours_seeds", other_seeds(lambda call, request: tuple(range(len(request.seeds))))),
        ("seeds_differ", other_seeds(lambda call, request: tuple(0 for _ in request.seeds))),
        ("batch_is_one_by_one", lambda call, requests, replies: sorted(replies, key=lambda r: r.segments[0].tokens)),
        ("cold_is_greedy", never_cold),
    ],
)
async def test_a_policy_that_breaks_a_law_is_caught(law, spoil):
    await check_policy(Toy(), PREFIXES, STEP)
    with pytest.raises((AssertionError, PolicyError), match=law):
        await check_policy(Broken(spoil), PREFIXES, STEP)


async def test_best_effort_seeds_are_checked_for_the_rest():
    wayward = Broken(other_seeds(lambda call, request: tuple(seed + call for seed in request.seeds)))
    await check_policy(wayward, PREFIXES, STEP, seeded=False)
