"""A world of the tests over pools: every model of it replicated, what is asked counted, and who kills replicas."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial

import pool_doubles as doubles
import pytest

from policies.pool.port import Port, anything, by_content
from policies.toy import Toy
from search.errors import PolicyError
from search.worlds import World


def built(part):
    """What makes a toy part again, in another process."""
    return partial(type(part), **{name: getattr(part, name) for name in part.__dataclass_fields__})


def slow(policy, seconds):
    """The same toy, taking a moment, so that kills find something to lose."""
    return doubles.Frail(**{name: getattr(policy, name) for name in Toy.__dataclass_fields__}, seconds=seconds)


class Over:
    """`world` over pools.

    Attributes:
        world: its models are pools.
        pools: those of the policy, the verifier and the roles.
        asked: requests and prefixes that searches have sent.
    """

    def __init__(self, world: World, pools):
        self.pools, self.asked = pools, 0
        policy, verifier, roles = pools["policy"], pools["verifier"], {n: pools[n] for n in world.roles}
        self.scored = verifier.score
        self.world = replace(world, policy=policy, roles=roles).through(self._sample, self)

    async def _sample(self, policy, requests):
        self.asked += len(requests)
        return await policy.sample(requests)

    async def score(self, prefixes):
        self.asked += len(prefixes)
        return await self.scored(prefixes)

    @property
    def counters(self):
        """Of all pools."""
        return [pool.counters for pool in self.pools.values()]

    def counted(self, name):
        """The sum of a counter."""
        return sum(getattr(counters, name) for counters in self.counters)

    @property
    def died(self):
        """Replicas that were replaced because they had died, or did not say that they live."""
        return sum(counters.replaced.get(why, 0) for counters in self.counters for why in ("died", "silent"))


@asynccontextmanager
async def over(world, hosting, seconds=0.0):
    """`world` over `hosting`; its policy takes `seconds` for an answer."""
    policy = slow(world.policy, seconds) if seconds else world.policy
    async with AsyncExitStack() as stack:
        pools = {"policy": await stack.enter_async_context(hosting.policy(built(policy)))}
        pools["verifier"] = await stack.enter_async_context(hosting.verifier(built(world.verifier)))
        for role, other in world.roles.items():
            pools[role] = await stack.enter_async_context(replace(hosting, replicas=1).policy(built(other)))
        yield Over(world, pools)


class Killer:
    """Kills replicas at random, one after the other, until `kills` are dead or it is stopped.

    Attributes:
        killed: those that are dead, each once.
    """

    def __init__(self, pools, kills, rng, pause=(0.1, 0.5)):
        self.pools, self.kills, self.rng, self.pause = pools, kills, rng, pause
        self.killed = []

    async def __call__(self):
        while len(self.killed) < self.kills:
            await asyncio.sleep(self.rng.uniform(*self.pause))
            slots = [slot for pool in self.pools for slot in pool.pool._slots.values()]
            alive = [slot.replica for slot in slots if slot.replica not in self.killed]
            if alive:
                self.killed.append(victim := self.rng.choice(alive))
                kill(victim)


def kill(replica):
    """From outside, as an accident does."""
    if hasattr(replica, "pid"):
        with suppress(ProcessLookupError):
            os.kill(replica.pid, signal.SIGKILL)
    else:
        import ray

        ray.kill(replica._actor, no_restart=True)


async def the_same(over, world, searches, together=8):
    """Every search grows the same trees over pools as without, `together` of them at a time."""
    names, waiting = list(searches), asyncio.Semaphore(together)

    async def one(name):
        async with waiting:
            wanted = await world.run_all(searches[name])
            found = await over.world.run_all(searches[name])
            assert [trial.record() for trial in found] == [trial.record() for trial in wanted], name

    before = over.counted("items"), over.asked
    await asyncio.gather(*map(one, names))
    assert over.counted("items") - before[0] == over.asked - before[1], "nothing lost, nothing counted twice"


async def odd_messages(pool):
    """What cannot be sent or read is the error of that call; the replica and the calls beside it go on."""
    port = Port("square", by_content, anything, PolicyError)
    ways = {
        "unsendable": (RuntimeError, "the answer cannot be pickled"),
        "unreadable": (RuntimeError, "the answer cannot be read: this cannot be read here"),
        doubles.Unreadable(): (OSError, "this cannot be read here"),  # there
        lambda: None: (Exception, "pickle"),
    }
    for item, (error, sentence) in ways.items():
        with pytest.raises(error, match=sentence):
            await pool(port, [item])
        assert await asyncio.gather(*(pool(port, [n]) for n in range(4))) == [[0], [1], [2], [3]]
    assert not pool.counters.replaced
