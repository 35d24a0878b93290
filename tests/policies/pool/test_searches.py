"""Every search grows the same tree over a pool, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial

import pool_doubles as doubles
import pytest

from policies.pool.local import Local
from policies.toy import Toy
from verifiers.toy import Hidden

KILLS = 50 if os.environ.get("TREEWISE_FULL") == "1" else 8


def built(part):
    """What makes a toy part again, in another process."""
    return partial(type(part), **{name: getattr(part, name) for name in part.__dataclass_fields__})


async def pooled(stack, hosting, world):
    """The world, every model of it replicated."""
    policy = await stack.enter_async_context(hosting.policy(built(world.policy)))
    verifier = await stack.enter_async_context(hosting.verifier(built(world.verifier)))
    roles = {
        role: await stack.enter_async_context(replace(hosting, replicas=1).policy(built(other)))
        for role, other in world.roles.items()
    }
    return replace(world, policy=policy, verifier=verifier, roles=roles)


@pytest.mark.parametrize("workers", ["inline", "thread"])
async def test_every_search_grows_the_same_tree_over_a_pool(workers, searches, worlds):
    world = replace(worlds["letters"], prompts=worlds["letters"].prompts[:1])
    async with AsyncExitStack() as stack:
        over = await pooled(stack, Local(workers=workers, replicas=3, spill=2, affinity=1), world)
        for name, search in searches.items():
            (wanted,), (found,) = await world.run_all(search), await over.run_all(search)
            assert found.record() == wanted.record(), name


async def test_every_search_grows_the_same_tree_while_replicas_are_killed(searches, worlds):
    world = worlds["letters"]
    rng, killed = random.Random(0), set()
    # all draws take a moment, so that kills find something to lose
    slow = replace(world, policy=doubles.Frail(seconds=0.01), verifier=Hidden("abcab"))
    hosting = Local(workers="process", replicas=2, spill=2, retries=50, health=0.5)

    async def kill(front):
        while len(killed) < KILLS:
            await asyncio.sleep(rng.uniform(0.1, 0.5))
            ready = [slot.replica.pid for slot in front.pool._slots.values() if slot.replica.pid not in killed]
            if ready:
                killed.add(victim := rng.choice(ready))
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)

    async with AsyncExitStack() as stack:
        policy = await stack.enter_async_context(hosting.policy(built(slow.policy)))
        verifier = await stack.enter_async_context(hosting.verifier(built(slow.verifier)))
        over = replace(slow, policy=policy, verifier=verifier)
        killers = [asyncio.create_task(kill(front)) for front in (policy, verifier)]
        while len(killed) < KILLS:
            for name, search in searches.items():
                found = await over.run_all(search)
                wanted = await replace(world, policy=Toy()).run_all(search)
                assert [trial.record() for trial in found] == [trial.record() for trial in wanted], name
                if len(killed) >= KILLS:
                    break
        await asyncio.gather(*killers)
        await asyncio.sleep(2 * hosting.health)  # the last are noticed
        died = policy.counters.replaced.get("died", 0) + verifier.counters.replaced.get("died", 0)
    assert len(killed) >= KILLS and died == len(killed)
    assert policy.counters.again + verifier.counters.again > 0
