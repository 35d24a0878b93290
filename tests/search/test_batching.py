"""The batcher: which calls run together, and what becomes of their errors."""

import asyncio

import pytest

from policies.testing import check_policy
from policies.toy import Toy
from search.batching import Batched, BatchedVerifier, Batcher
from search.steps import Tokens
from search.types import Prefix, Sampling, Segment
from verifiers.testing import check_verifier
from verifiers.toy import Hidden


class Doubler:
    """Takes a round of the event loop per call and remembers its batches."""

    def __init__(self):
        self.batches = []

    async def __call__(self, items):
        self.batches.append(list(items))
        await asyncio.sleep(0)
        if "bad" in items:
            raise ValueError("a bad item")
        return [item * 2 for item in items]


async def test_calls_made_together_run_together():
    double = Doubler()
    batcher = Batcher(double)
    answers = await asyncio.gather(*(batcher([n, n + 100]) for n in range(50)))
    assert answers == [[2 * n, 2 * n + 200] for n in range(50)]
    assert batcher.sizes == [100]


async def test_callers_in_step_share_every_batch():
    double = Doubler()
    batcher = Batcher(double)

    async def search(steps):
        for step in range(steps):
            await batcher([step])

    await asyncio.gather(*(search(5) for _ in range(64)))
    assert batcher.sizes == [64] * 5


async def test_a_batch_is_not_larger_than_it_may_be():
    double = Doubler()
    batcher = Batcher(double, size=7)
    answers = await asyncio.gather(*(batcher([n]) for n in range(20)))
    assert answers == [[2 * n] for n in range(20)]
    assert batcher.sizes == [7, 7, 6]
    assert double.batches == [list(range(7)), list(range(7, 14)), list(range(14, 20))]


async def test_what_arrives_meanwhile_forms_the_next_batch():
    double = Doubler()
    batcher = Batcher(double, settle=0)

    async def late():
        await asyncio.sleep(0)
        return await batcher([2])

    assert await asyncio.gather(batcher([1]), late()) == [[2], [4]]
    assert double.batches == [[1], [2]]


async def test_an_error_reaches_those_of_its_batch_and_no_others():
    batcher = Batcher(Doubler(), size=2)
    results = await asyncio.gather(*(batcher([item]) for item in (1, "bad", 3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError, list]
    assert await batcher([4]) == [8]


async def test_too_few_answers_are_an_error():
    async def forgetful(items):
        return items[1:]

    with pytest.raises(ValueError, match="zip"):
        await Batcher(forgetful)([1, 2])


async def test_a_caller_that_goes_away_does_not_hurt_the_others():
    double = Doubler()
    batcher = Batcher(double)
    gone, stays = (asyncio.create_task(batcher([n])) for n in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == [4]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_no_items_make_no_batch():
    batcher = Batcher(Doubler())
    assert await batcher([]) == []
    assert batcher.sizes == []


def test_one_batcher_may_serve_one_event_loop_after_another():
    batcher = Batcher(Doubler())
    assert [asyncio.run(batcher([n])) for n in (1, 2)] == [[2], [4]]


async def test_wrapped_models_keep_the_laws_of_what_they_wrap():
    prompt = Segment((1,), "q")
    prefixes = [Prefix(prompt), Prefix(prompt, (Segment((97,), "a", (0.0,)),))]
    await check_policy(Batched(Toy(), 2), prefixes, Sampling(until=Tokens(1)))
    await check_verifier(BatchedVerifier(Hidden("ab"), 2), prefixes)
