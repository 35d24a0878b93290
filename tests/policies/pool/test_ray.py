"""Replicas as Ray actors: the same answers, whichever actor or node dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pool_doubles as doubles
import pytest

from policies.pool import cluster
from policies.pool.local import Local
from policies.pool.ray import Ray
from policies.toy import Toy
from search.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
FULL = os.environ.get("TREEWISE_FULL") == "1"
SMALL = {"num_cpus": 2, "object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def ray_here():
    """One small cluster for all tests of this file; Ray's own warnings are not ours."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    cluster.join("local", SMALL)
    yield ray
    cluster.leave()


NODES = """
import asyncio, os, sys, warnings
warnings.simplefilter("ignore")
from functools import partial
import ray
from ray.cluster_utils import Cluster
import pool_doubles as doubles
from policies.pool.ray import Ray
from policies.toy import Toy
from search.steps import Tokens
from search.types import Prefix, Request, Sampling

async def main():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    other = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    ray.init(address=cluster.address, log_to_driver=False)
    requests = [Request(Prefix(Toy().write(f"q{i}")), Sampling(until=Tokens(2)), (i, i + 1)) for i in range(24)]
    wanted = await Toy().sample(requests)
    try:
        hosting = Ray(replicas=2, cpus=1.0, retries=30, health=1.0, start=60.0)
        async with hosting.policy(partial(doubles.Frail, seconds=0.05)) as pooled:
            assert len(pooled.pool._slots) == 2
            calls = asyncio.gather(*(pooled.sample([request]) for request in requests))
            await asyncio.sleep(0.02)
            cluster.remove_node(other)  # with what it was working on
            assert [answer for (answer,) in await calls] == wanted
            assert pooled.counters.replaced.get("died", 0) + pooled.counters.replaced.get("silent", 0) >= 1
            assert pooled.counters.again > 0 and pooled.counters.items == 24
            assert len(pooled.pool._slots) == 1
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)  # it comes back
            for _ in range(600):
                if len(pooled.pool._slots) == 2:
                    break
                await asyncio.sleep(0.1)
            assert len(pooled.pool._slots) == 2
            assert await pooled.sample(requests) == wanted
    finally:
        ray.shutdown()
        cluster.shutdown()
    print("the same")

asyncio.run(main())
"""


@pytest.mark.ray
def test_a_node_leaves_and_comes_back():
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    paths = os.pathsep.join((str(ROOT), str(Path(__file__).parent / "parts")))
    done = subprocess.run(
        [sys.executable, "-c", NODES],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.stdout.endswith("the same\n"), done.stderr[-3000:]


async def kill_some(ray, front, killed, kills, rng):
    while len(killed) < kills:
        await asyncio.sleep(rng.uniform(0.2, 1.0))
        ready = [slot.replica._actor for slot in front.pool._slots.values()]
        if ready and (victim := rng.choice(ready))._actor_id not in killed:
            killed.add(victim._actor_id)
            ray.kill(victim, no_restart=True)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_searches_are_the_same_over_actors_and_while_they_are_killed(ray_here, searches, worlds):
    world = worlds["letters"]
    names = ["beam", "astar-waves", "mcts", "phi", "particles", "treepo", "ab-mcts-waves"]
    wanted = {name: [trial.record() for trial in await world.run_all(searches[name])] for name in names}
    for replicas, kills in ((1, 0), (2, 6 if FULL else 3), (4, 0)):
        hosting = Ray(replicas=replicas, cpus=0.25, spill=2, retries=30, health=2.0)
        async with (
            hosting.policy(partial(doubles.Frail, seconds=0.005)) as policy,
            replace(hosting, replicas=1).verifier(partial(type(world.verifier), "abcab")) as verifier,
        ):
            over, killed = replace(world, policy=policy, verifier=verifier), set()
            killer = asyncio.create_task(kill_some(ray_here, policy, killed, kills, random.Random(kills)))
            while True:
                for name in names:
                    found = [trial.record() for trial in await over.run_all(searches[name])]
                    assert found == wanted[name], (name, replicas, kills)
                if len(killed) >= kills:
                    break
            await killer
            await asyncio.sleep(2 * hosting.health)  # the last are noticed
            # on a busy machine a healthy actor may be too slow to say so, and is replaced as well
            assert policy.counters.replaced.get("died", 0) >= kills


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_an_actor_has_its_environment_and_its_errors(ray_here, requests_of):
    from policies.pool.port import Port, anything, by_content
    from search.errors import PolicyError

    square = Port("square", by_content, anything, PolicyError)
    async with Ray(replicas=2, cpus=0.25, environment={"COLOUR": "blue{slot}"}, spill=0).pool(doubles.Squares) as pool:
        answers = await asyncio.gather(*(pool(square, [i]) for i in range(32)))
        assert {a[4] for (a,) in answers} == {"blue0", "blue1"}
    with pytest.raises(ConfigError, match="model='nowhere'"):
        async with Ray(replicas=1, cpus=0.25).policy(doubles.Unloadable):
            pass
    requests = requests_of(4, poison=(2,))
    async with Ray(replicas=1, cpus=0.25, retries=1).policy(partial(doubles.Poisoned, kind="fault")) as pooled:
        answers = await asyncio.gather(*(pooled.sample([r]) for r in requests), return_exceptions=True)
        assert [isinstance(a, OSError) for a in answers] == [False, False, True, False]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_more_than_the_cluster_has_is_one_sentence(ray_here):
    with pytest.raises(ConfigError, match=r"pool.gpus=3.* replicas need 6 and the cluster has 0"):
        async with Ray(replicas=2, gpus=3.0).policy(Toy):
            pass


@contextlib.contextmanager
def refused(match):
    """A sentence, within 30 seconds."""
    began = time.monotonic()
    with pytest.raises(ConfigError, match=match):
        yield
    assert time.monotonic() - began < 30


async def test_without_ray_it_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with refused("Ray is not installed: pip install"):
        async with Ray().policy(Toy):
            pass


async def test_an_address_that_does_not_answer_is_one_sentence(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setitem(sys.modules, "ray", type("ray", (), {"is_initialized": staticmethod(lambda: False)}))
    with refused("no Ray cluster answers there"):
        async with Ray(address=address).policy(Toy):
            pass
    with refused("give host:port"):
        async with Ray(address="nowhere").policy(Toy):
            pass


async def test_more_devices_than_this_machine_has_is_one_sentence(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    with refused("4 replicas need 4000 and this machine has"):
        async with Ray(replicas=4, gpus=1000.0).policy(Toy):
            pass


@pytest.mark.parametrize(("field", "value"), [("placement", "anywhere"), ("gpus", -1.0)])
def test_wrong_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Ray(**{field: value})


def test_a_pool_of_ray_has_the_rules_of_any_other():
    ours = {name for name in Local.__dataclass_fields__ if name not in ("workers", "environment")}
    assert ours <= set(Ray.__dataclass_fields__)
