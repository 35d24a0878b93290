"""A pool changes no result: with one replica or four, in threads or processes, whatever happens to them."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial

import pool_doubles as doubles
import pytest
from over_pools import odd_messages

from policies.pool.local import Local
from policies.pool.port import Port, anything, by_content
from policies.testing import check_policy
from policies.toy import Toy
from search.errors import ConfigError, PolicyError
from search.ports import Describes, KeepsPrefixes, Likelihood, Renders, Writes, ability
from search.steps import Tokens
from search.types import Prefix, Sampling
from verifiers.testing import check_verifier
from verifiers.toy import Hidden

FULL = os.environ.get("TREEWISE_FULL") == "1"
QUICK = {"health": 0.2, "deadline": 5.0}


def squares(batch=None):
    return Port("square", by_content, anything, PolicyError)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
async def test_it_keeps_the_laws_of_a_policy(workers, replicas, requests_of):
    prefixes = [request.prefix for request in requests_of(3)]
    async with Local(workers=workers, replicas=replicas).policy(partial(Toy, end=0.2)) as pooled:
        await check_policy(pooled, prefixes, Sampling(until=Tokens(2)))


async def test_it_keeps_the_laws_of_a_verifier(requests_of):
    prefixes = [request.prefix + Toy().write(word) for request in requests_of(2) for word in ("a", "ab", "b")]
    async with Local(workers="thread").verifier(partial(Hidden, "abcab")) as pooled:
        await check_verifier(pooled, prefixes)
        assert await pooled.score(prefixes) == await Hidden("abcab").score(prefixes)


@pytest.mark.parametrize("kind", ["die", "garbage", "short", "fault", "hang", "freeze"])
async def test_replicas_that_fail_are_replaced_and_no_answer_changes(kind, requests_of, tmp_path):
    accidents = {"die": 10, "hang": 2, "freeze": 2}.get(kind, 5) * (3 if FULL and kind == "die" else 1)
    build = partial(doubles.Frail, folder=str(tmp_path), accidents=accidents, kind=kind, chance=0.6)
    rules = {"retries": 20, "deadline": 0.5} if kind in ("hang", "freeze") else {"retries": 20, "deadline": 30.0}
    async with Local(workers="process", replicas=2, health=0.5, **{**rules}).policy(build) as pooled:
        rounds = 0
        while len(list(tmp_path.iterdir())) < accidents and rounds < 200:
            requests = requests_of(12, seeds=(rounds, rounds + 1))
            answers = await asyncio.gather(*(pooled.sample([request]) for request in requests))
            assert [answer for (answer,) in answers] == await Toy().sample(requests)
            rounds += 1
        counters = pooled.counters
    assert len(list(tmp_path.iterdir())) == accidents
    assert counters.items == 12 * rounds, "nothing lost, nothing counted twice"
    if kind != "fault":  # three in a row replace a replica; here they are rare
        names = {"die": "died", "short": "garbage", "hang": "hung", "freeze": "hung"}
        assert names.get(kind, kind) in counters.replaced
    assert counters.again >= accidents and counters.lost_seconds > 0
    assert (counters.lost_tokens > 0) == (kind == "garbage")


@pytest.mark.parametrize("kind", ["die", "garbage", "fault", "hang"])
async def test_a_poison_request_is_that_requests_error(kind, requests_of):
    requests = requests_of(9, poison=(4,))
    rules = {"deadline": 0.3, "retries": 3} if kind == "hang" else {"retries": 3}
    async with Local(workers="process", replicas=2, **rules).policy(partial(doubles.Poisoned, kind=kind)) as pooled:
        answers = await asyncio.gather(*(pooled.sample([r]) for r in requests), return_exceptions=True)
        again = await pooled.sample(requests[:4])
    said = {"fault": OSError}.get(kind, PolicyError)
    assert [i for i, answer in enumerate(answers) if isinstance(answer, Exception)] == [4]
    assert isinstance(answers[4], said) and str(answers[4])
    wanted = await Toy().sample(requests)
    assert [answer for i, answer in enumerate(answers) if i != 4] == [[w] for i, w in enumerate(wanted) if i != 4]
    assert again == wanted[:4]


@pytest.mark.parametrize("batch", [None, 4])
async def test_what_a_part_says_of_a_request_is_an_answer(batch, requests_of):
    requests = requests_of(8, poison=(3,))
    async with Local(workers="thread", replicas=2, batch=batch).policy(doubles.Refuses) as pooled:
        answers = await asyncio.gather(*(pooled.sample([r]) for r in requests), return_exceptions=True)
        assert str(answers[3]) == "this prompt does not fit"
        assert not any(isinstance(a, Exception) for i, a in enumerate(answers) if i != 3)
        assert pooled.counters.again == 0 and not pooled.counters.replaced


async def test_any_part_with_batches_may_be_pooled(requests_of):
    """A sandbox, a grader: numbers here. Batches form in each replica; each has an environment of its own."""
    hosting = Local(workers="process", replicas=2, batch=8, spill=0, environment={"COLOUR": "red{slot}"})
    async with hosting.pool(doubles.Squares) as pool:
        answers = await asyncio.gather(*(pool(squares(), [i]) for i in range(64)))
        assert [(a[0], a[1]) for (a,) in answers] == [(i, i * i) for i in range(64)]
        assert {a[4] for (a,) in answers} == {"red0", "red1"}
        assert len({a[2] for (a,) in answers}) == 2 and os.getpid() not in {a[2] for (a,) in answers}
        assert max(a[3] for (a,) in answers) == 8
        assert [a[0] for a in await pool(squares(), [])] == []


async def test_what_cannot_be_sent_or_read_is_an_error_of_that_call_alone():
    async with Local(replicas=1, retries=0).pool(doubles.Odd) as pool:
        await odd_messages(pool)


async def test_a_full_pool_makes_its_callers_wait():
    async with Local(workers="inline", replicas=2, rows=2, queue=3).pool(doubles.Squares) as pool:
        calls = [asyncio.create_task(pool(squares(), [i, i + 1, i + 2])) for i in range(20)]
        most = 0
        while not all(call.done() for call in calls):
            inside = sum(slot.load for slot in pool._slots.values())
            most = max(most, inside)
            assert all(slot.working <= 2 for slot in pool._slots.values())
            await asyncio.sleep(0)
        assert most == 2 * (2 + 3)
        assert [[a[0] for a in call.result()] for call in calls] == [[i, i + 1, i + 2] for i in range(20)]
        assert pool._waiting == 0 and not pool._door


async def test_a_caller_that_gives_up_leaves_nothing_behind():
    async with Local(workers="inline", replicas=1, rows=1, queue=4).pool(doubles.Squares) as pool:
        calls = [asyncio.create_task(pool(squares(), [i])) for i in range(12)]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert [a[0][0] for a in done[1::2]] == list(range(1, 12, 2))
        assert pool._waiting == 0 and not pool._door


async def test_it_grows_with_the_queue_and_shrinks_when_idle():
    rules = {"replicas": 1, "most": 3, "rows": 2, "health": 0.02, "idle": 0.1}
    async with Local(workers="inline", **rules).pool(doubles.Squares) as pool:
        answers = await pool(squares(), range(1000))
        assert [a[0] for a in answers] == list(range(1000))
        grown = pool.counters.grown
        assert 1 <= grown <= 2 and len(pool._slots) == 1 + grown  # how soon the queue is looked at is a matter of time
        for _ in range(200):
            if len(pool._slots) == 1:
                break
            await asyncio.sleep(0.02)
        assert pool.counters.shrunk == pool.counters.grown and set(pool._slots) == {0}
        assert (await pool(squares(), [7]))[0][1] == 49


async def test_a_replica_that_dies_idle_is_noticed(requests_of):
    async with Local(replicas=2, health=0.1).policy(Toy) as pooled:
        victim = pooled.pool._slots[0].replica
        os.kill(victim.pid, signal.SIGKILL)
        for _ in range(600):
            if pooled.counters.replaced and len(pooled.pool._slots) == 2:
                break
            await asyncio.sleep(0.05)
        assert pooled.counters.replaced == {"died": 1} and pooled.pool._slots[0].replica is not victim
        assert pooled.counters.again == 0


async def test_a_frozen_process_is_noticed(requests_of):
    async with Local(replicas=2, health=0.3).policy(Toy) as pooled:
        os.kill(pooled.pool._slots[1].replica.pid, signal.SIGSTOP)
        requests = requests_of(8)
        assert await pooled.sample(requests) == await Toy().sample(requests)
        assert pooled.counters.replaced == {"silent": 1}


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
async def test_a_part_that_cannot_be_loaded_is_one_sentence(workers):
    hosting = Local(workers=workers, replicas=2, start=20.0)
    with pytest.raises(ConfigError, match="model='nowhere' is not valid"):
        async with hosting.policy(doubles.Unloadable):
            pass
    with pytest.raises(ConfigError, match="a replica does not start: OSError: no"):
        async with hosting.policy(partial(doubles.Unloadable, error="other")):
            pass


async def test_a_replica_that_dies_or_hangs_at_its_start_is_one_sentence():
    with pytest.raises(ConfigError, match="ended with status 3"):
        async with Local().policy(partial(doubles.Unloadable, error="die")):
            pass
    with pytest.raises(ConfigError, match="not ready in time"):
        async with Local(workers="thread", start=0.1).policy(partial(doubles.Unloadable, error="hang")):
            pass


@pytest.mark.parametrize("build", [Toy, doubles.Heavy])
async def test_it_has_the_abilities_of_its_part_and_no_others(build):
    async with Local(workers="process", replicas=1).policy(build) as pooled:
        assert ability(pooled, Renders).prompt([{"content": "hi"}]) == Toy().prompt([{"content": "hi"}])
        assert ability(pooled, Writes).write("ab") == Toy().write("ab")
        assert ability(pooled, Describes).fingerprint == build().fingerprint
        assert ability(pooled, Likelihood) is None and ability(pooled, KeepsPrefixes) is None


async def test_a_verifier_is_bound_where_it_works():
    prefix = Prefix(Toy().write("q")) + Toy().write("abb")
    async with Local(workers="process", replicas=1).verifier(partial(doubles.Bound, "abb")) as pooled:
        for word in ("abb", "bbb", "abb"):
            assert await pooled.bind(word).score([prefix]) == await Hidden(word).score([prefix])
    assert not hasattr(Local().verifier(partial(Hidden, "abb")), "bind")


@pytest.mark.parametrize(
    ("field", "value"), [("replicas", 0), ("most", 1), ("rows", 0), ("spill", -1), ("deadline", 0), ("workers", "many")]
)
def test_wrong_rules_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Local(**{field: value})
