"""Every search grows the same tree over Ray actors on one node and on two, whichever actor or node dies meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace

import pytest
from over_pools import Killer, over, the_same

from policies.pool.ray import Ray
from policies.pool.replica import Gone

FULL = os.environ.get("TREEWISE_FULL") == "1"
KILLS, LOSSES = (60, 4) if FULL else (10, 1)  # of actors and of the second node
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def some(worlds):
    """Worlds by name: one with one problem, or all of them."""
    one = replace(worlds["letters"], prompts=worlds["letters"].prompts[:1])
    return worlds if FULL else {"letters": one}


@pytest.mark.parametrize("replicas", [1, 2, 4])
async def test_every_search_grows_the_same_tree_over_actors(replicas, nodes, searches, some):
    for world in some.values():
        async with over(world, Ray(replicas=replicas, cpus=0.2, spill=2, affinity=1)) as pooled:
            await the_same(pooled, world, searches)
            assert pooled.counted("again") == 0


async def test_every_search_grows_the_same_tree_while_actors_and_a_node_die(nodes, searches, worlds):
    """The node comes back each time."""
    world = worlds["letters"]
    hosting = Ray(replicas=3, cpus=0.2, spill=2, retries=50, health=2.0)
    async with over(world, hosting, seconds=0.01) as pooled:
        pools = [pooled.pools["policy"], pooled.pools["verifier"]]
        killer = Killer(pools, KILLS, random.Random(0), pause=(0.3, 1.0))
        lost = []

        async def lose_nodes():
            for _ in range(LOSSES):
                while not (there := await on(nodes.other, pools[0])):
                    await asyncio.sleep(0.2)
                await asyncio.to_thread(nodes.lose)
                lost.append(there)
                await asyncio.sleep(3)
                nodes.regain()  # Ray wants the main thread for it
                await asyncio.sleep(5)

        killing = asyncio.gather(killer(), lose_nodes())
        while not killing.done():
            await the_same(pooled, world, searches)
        await killing
        await asyncio.sleep(2 * hosting.health)  # the last are noticed
    # on a busy machine a healthy actor may be too slow to say that it lives, and is replaced as well
    assert pooled.died >= KILLS == len(killer.killed) and len(lost) == LOSSES and min(lost) > 0
    assert pooled.counted("again") > 0 and pooled.counted("lost_seconds") > 0
    print(f"{KILLS} actors and {LOSSES} nodes killed, {pooled.counted('again')} requests asked again")


async def on(node, front):
    """How many replicas of a pool of `Frail` policies work on a node."""
    return sum(
        [await asyncio.to_thread(place, slot.replica) == node.node_id for slot in list(front.pool._slots.values())]
    )


def place(replica):
    try:
        return replica.ask("node", (), 1.0)
    except Gone:
        return None
