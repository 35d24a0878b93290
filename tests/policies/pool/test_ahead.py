"""Requests begun before searches make them: the same trees, sooner where it pays, and not at all where it does not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pool_doubles as doubles
import pytest
from over_pools import over

from experiments.benchmarks.ahead import POLICY, SEARCHES, searched
from policies.pool import ahead
from policies.pool.ahead import Habit, gain
from policies.pool.local import Local
from policies.pool.rules import Counters
from policies.toy import Toy
from search.algorithms.beam import Beam
from search.errors import PolicyError
from search.seeds import seed_of
from search.steps import Tokens
from search.types import Cost, Prefix, Reply, Request, Sampling

BOTH = Local(workers="inline", replicas=2, ahead=1)


@pytest.fixture
def eager(monkeypatch):
    """Begins whatever may come, whether or not it pays."""
    monkeypatch.setattr(ahead, "ENOUGH", 0)
    monkeypatch.setattr(ahead, "LEAST", -1.0)
    monkeypatch.setattr(ahead, "gain", lambda *_: 1.0)
    monkeypatch.setattr(Habit, "chance", lambda self, rank: 1.0)


async def test_every_search_grows_the_same_tree_and_pays_the_same(eager, searches, worlds):
    for name in ("letters", "poor"):
        world = replace(worlds[name], prompts=worlds[name].prompts[:1])
        async with over(world, BOTH) as pooled, pooled.pools["policy"].foresee(world.seed) as session:
            looking = replace(pooled.world, policy=session)
            for which, search in searches.items():
                wanted, found = await world.run_all(search), await looking.run_all(search)
                assert [trial.record() for trial in found] == [trial.record() for trial in wanted], which
        counters: Counters = pooled.pools["policy"].counters
        assert counters.begun > counters.used > 0
        assert session.used == counters.used
        assert session.wasted == Cost(speculated=counters.wasted_tokens) and counters.wasted_tokens > 0


@pytest.mark.parametrize("name", SEARCHES)
def test_with_a_slow_verifier_a_second_replica_saves_time_and_no_answer_changes(name):
    """All children of a single beam are begun on both replicas; where more is at work, less can be gained."""
    off, _, wanted = searched(0, SEARCHES[name], POLICY)
    on, counters, found = searched(1, SEARCHES[name], POLICY)
    assert found == wanted
    assert on < {"beam_1": 0.6}.get(name, 1.0) * off and counters.used > 20
    assert counters.wasted_tokens >= counters.begun - counters.used


@pytest.mark.parametrize("judging", [0.0, 0.1 * POLICY])
def test_where_it_does_not_pay_it_stays_off(judging):
    """A verifier that answers at once leaves nothing to save; one fast against the policy, more to lose."""
    off, _, wanted = searched(0, Beam(1, 2), judging)
    on, counters, found = searched(1, Beam(1, 2), judging)
    assert found == wanted and counters.begun == 0 and on == off


def test_the_gain_by_hand():
    assert gain(1.0, 2.0, 3.0) == 2.0 and gain(1.0, 3.0, 2.0) == 2.0
    assert gain(0.0, 2.0, 3.0) == 0.0 and gain(0.0, 3.0, 1.0) == -2.0
    assert gain(0.25, 3.0, 1.0) == pytest.approx(0.25 * 1 - 0.75 * 2)


def test_a_chance_is_known_after_some_tries_and_forgets():
    habit = Habit()
    for _ in range(ahead.ENOUGH - 1):
        habit.tried(0)
        habit.hit(0)
    assert habit.chance(0) == 0.0
    habit.tried(0)
    assert habit.chance(0) == pytest.approx((ahead.ENOUGH - 1) / ahead.ENOUGH)
    for _ in range(1000):
        habit.tried(0)
    assert habit.chance(0) < 0.02


async def test_what_fails_ahead_of_need_is_asked_again(eager):
    class Once(Toy):
        failed = False

        async def sample(self, requests):
            if (requests[0].prefix.prompt.text, requests[0].prefix.text) == ("p", "a") and not Once.failed:
                Once.failed = True
                raise PolicyError("not now")
            return await super().sample(requests)

    request = Request(Prefix(Toy().write("q")), Sampling(until=Tokens(1)), (1, 2, 3, 4, 5, 6))
    async with BOTH.policy(Once) as pooled, pooled.foresee(0) as session:
        for prompt in ("q", "p"):  # the first teaches what follows
            first = Request(Prefix(Toy().write(prompt)), request.sampling, request.seeds)
            (reply,) = await session.sample([first])
            for segment in {s.text: s for s in reply.segments}.values():
                child = first.prefix + segment
                seeds = tuple(seed_of(0, child, request.sampling, i) for i in range(2))
                (found,) = await session.sample([Request(child, request.sampling, seeds)])
                assert isinstance(found, Reply)
        assert Once.failed and session.used > 0


async def test_nothing_is_begun_while_others_wait(requests_of):
    async with Local(workers="inline", replicas=1, rows=1, ahead=1).policy(Toy) as pooled:
        waiting = [asyncio.create_task(pooled.sample([request])) for request in requests_of(3)]
        await asyncio.sleep(0)
        assert pooled.begin(requests_of(4)[3]) is None
        await asyncio.gather(*waiting)
        assert await pooled.begin(requests_of(4)[3]) == (await Toy().sample(requests_of(4)))[3]


def test_it_is_off_unless_asked_for():
    assert Local().policy(Toy).foresee(0) is None


async def test_it_stays_the_same_while_replicas_die(eager, searches, worlds, tmp_path):
    """Also when what dies is what was begun early."""
    world, names = worlds["letters"], ["beam", "astar-waves", "mcts", "particles"]
    frail = partial(doubles.Frail, folder=str(tmp_path), accidents=6, seconds=0.005)
    hosting = Local(workers="process", replicas=2, ahead=1, retries=20, health=0.5)
    async with hosting.policy(frail) as pooled, pooled.foresee(world.seed) as session:
        looking = replace(world, policy=session)
        for name in names:
            wanted, found = await world.run_all(searches[name]), await looking.run_all(searches[name])
            assert [trial.record() for trial in found] == [trial.record() for trial in wanted], name
    assert pooled.counters.replaced["died"] > 0 and pooled.counters.begun > 0  # used: a matter of time
    assert session.wasted == Cost(speculated=pooled.counters.wasted_tokens)
