"""Laws of a policy, as plain async functions: what `search.ports.Policy` promises and types cannot say.

    from policies.testing import check_policy
    await check_policy(MyPolicy(), prefixes, sampling)

Each law takes the policy, at least two different prefixes, and a sampling with a boundary and a temperature above 0;
it raises AssertionError with the law's name and what was found, or PolicyError for a reply no search would take. A
policy whose seeds are best effort (a remote endpoint) is checked with `seeded=False`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import astuple, replace
from typing import Protocol, runtime_checkable

from search.contract import checked_reply
from search.ports import Policy
from search.steps import ended
from search.types import Boundary, Finish, Prefix, Reply, Request, Sampling, Segment


@runtime_checkable
class Splits(Protocol):
    """A policy with boundaries of its own, such as those of a section of thinking."""

    def boundary(self, prefix: Prefix, sampling: Sampling) -> Boundary | None:
        """Where a step after `prefix` ends, asked for with `sampling`."""
        ...


Law = Callable[[Policy, Sequence[Prefix], Sampling], Coroutine[None, None, None]]


async def check_policy(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling, *, seeded: bool = True) -> None:
    """Every law (`seeded`), or those that need no seeds."""
    for law in (*SEEDLESS, *(SEEDED if seeded else ())):
        await law(policy, prefixes, sampling)


async def empty_batch(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """No requests, no replies."""
    _same("empty_batch", list(await policy.sample([])), [])


async def keeps_the_contract(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """One reply per request, one segment per seed, one log-probability of at most 0 per token, limits kept."""
    for asked in (sampling, replace(sampling, max_tokens=1), replace(sampling, temperature=0.0)):
        requests = [Request(prefix, asked, (1, 2, 3)) for prefix in prefixes]
        replies = await policy.sample(requests)
        _same("keeps_the_contract", len(replies), len(requests))
        for request, reply in zip(requests, replies, strict=True):
            checked_reply(request, reply, policy)


async def finishes_for_a_reason(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """A step ends where the boundary says so, a cut segment has all its tokens, and without a boundary is no step."""
    for prefix in prefixes:
        for segment in await _segments(policy, Request(prefix, sampling, tuple(range(8)))):
            until = policy.boundary(prefix, sampling) if isinstance(policy, Splits) else sampling.until
            forced = segment.by != "policy"  # the environment's steps end where it says
            ends = forced or (until is not None and ended(until, segment.text, segment.logprobs))
            _true("finishes_for_a_reason", segment.finish is not Finish.STEP or ends, segment)
            if segment.tokens and segment.finish is Finish.LENGTH:
                _same("finishes_for_a_reason", len(segment.tokens), sampling.max_tokens)
        whole = await _segments(policy, Request(prefix, sampling.to_the_end(sampling.max_tokens), (0, 1)))
        _true("finishes_for_a_reason", all(segment.finish is not Finish.STEP for segment in whole), whole)


async def counts_what_it_samples(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """`generated` is the number of tokens sampled, `policy_calls` at least 1; no cost is negative."""
    for prefix in prefixes:
        (reply,) = await policy.sample([Request(prefix, sampling, (5, 6, 7))])
        tokens = sum(len(segment.tokens) for segment in reply.segments if segment.by == "policy")
        _true("counts_what_it_samples", reply.cost.generated == tokens or not tokens, reply.cost)
        _true("counts_what_it_samples", reply.cost.policy_calls >= 1, reply.cost)
        _true("counts_what_it_samples", min(astuple(reply.cost)) >= 0, reply.cost)


async def honours_seeds(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """Equal seeds give equal segments, whatever else is in the request."""
    for prefix in prefixes:
        first, second, again = await _segments(policy, Request(prefix, sampling, (11, 12, 11)))
        alone = await _segments(policy, Request(prefix, sampling, (12,)))
        _same("honours_seeds", _contents([(again, *alone)]), _contents([(first, second)]))


async def seeds_differ(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """Sixty-four seeds give more than one segment: a prefix shared by many draws does not make them one."""
    drawn = [await _segments(policy, Request(prefix, sampling, tuple(range(64)))) for prefix in prefixes]
    _true("seeds_differ", any(len({segment.tokens or segment.text for segment in one}) > 1 for one in drawn), drawn)


async def one_and_three_are_four(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """Seeds may be asked for together or one after the other."""
    for prefix in prefixes:
        four = await _segments(policy, Request(prefix, sampling, (1, 2, 3, 4)))
        one = await _segments(policy, Request(prefix, sampling, (1,)))
        three = await _segments(policy, Request(prefix, sampling, (2, 3, 4)))
        _same("one_and_three_are_four", _contents([(*one, *three)]), _contents([four]))


async def batch_is_one_by_one(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """The order of a batch is kept, and what else is in it, or in flight, does not matter."""
    requests = [Request(prefix, sampling, (seed,)) for seed in (21, 22) for prefix in prefixes]
    alone = [await _segments(policy, request) for request in requests]
    batch = [reply.segments for reply in await policy.sample(requests)]
    _same("batch_is_one_by_one", _contents(batch), _contents(alone))
    backwards = [reply.segments for reply in await policy.sample(requests[::-1])]
    _same("batch_is_one_by_one", _contents(backwards[::-1]), _contents(alone))
    at_once: list[Sequence[Reply]] = await asyncio.gather(*(policy.sample([request]) for request in requests))
    _same("batch_is_one_by_one", _contents([reply.segments for (reply,) in at_once]), _contents(alone))


async def cold_is_greedy(policy: Policy, prefixes: Sequence[Prefix], sampling: Sampling) -> None:
    """At temperature 0 the seed does not matter."""
    for prefix in prefixes:
        cold = await _segments(policy, Request(prefix, replace(sampling, temperature=0.0), (1, 2, 3)))
        _same("cold_is_greedy", len({(segment.tokens, segment.text) for segment in cold}), 1)


SEEDLESS: tuple[Law, ...] = (empty_batch, keeps_the_contract, finishes_for_a_reason, counts_what_it_samples)
SEEDED: tuple[Law, ...] = (honours_seeds, seeds_differ, one_and_three_are_four, batch_is_one_by_one, cold_is_greedy)
LAWS = (*SEEDLESS, *SEEDED)


async def _segments(policy: Policy, request: Request) -> tuple[Segment, ...]:
    (reply,) = await policy.sample([request])
    return reply.segments


def _contents(rows: Sequence[Sequence[Segment]]) -> list[list[tuple[object, ...]]]:
    """Without log-probabilities, whose last digits may depend on the batch."""
    return [[(segment.tokens, segment.text, segment.finish) for segment in row] for row in rows]


def _true(law: str, holds: bool, found: object) -> None:
    if not holds:
        raise AssertionError(f"{law}: {found}")


def _same(law: str, found: object, wanted: object) -> None:
    _true(law, found == wanted, f"{found} is not {wanted}")
