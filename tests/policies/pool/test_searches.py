"""Every search grows the same tree over a pool on this machine, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace

import pytest
from over_pools import Killer, over, the_same

from policies.pool.local import Local

KILLS = 50 if os.environ.get("TREEWISE_FULL") == "1" else 8


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
async def test_every_search_grows_the_same_tree_over_a_pool(workers, searches, worlds):
    world = replace(worlds["letters"], prompts=worlds["letters"].prompts[:1])
    async with over(world, Local(workers=workers, replicas=3, spill=2, affinity=1)) as pooled:
        await the_same(pooled, world, searches)


async def test_every_search_grows_the_same_tree_while_replicas_are_killed(searches, worlds):
    world = worlds["letters"]
    hosting = Local(workers="process", replicas=2, spill=2, retries=50, health=0.5)
    async with over(world, hosting, seconds=0.01) as pooled:
        killer = Killer(list(pooled.pools.values()), KILLS, random.Random(0))
        killing = asyncio.create_task(killer())
        while len(killer.killed) < KILLS:
            await the_same(pooled, world, searches)
        await killing
        await asyncio.sleep(2 * hosting.health)  # the last are noticed
    assert len(killer.killed) == KILLS <= pooled.died
    assert pooled.counted("again") > 0 and pooled.counted("lost_seconds") > 0
    print(f"{KILLS} replicas killed, {pooled.counted('again')} requests asked again")
