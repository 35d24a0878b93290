"""Replicas as Ray actors: their environment, their errors, and what cannot be had, in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from functools import partial

import pool_doubles as doubles
import pytest
from over_pools import kill, odd_messages

from policies.pool import cluster
from policies.pool.connection import connect
from policies.pool.local import Local
from policies.pool.port import Port, anything, by_content
from policies.pool.ray import Ray
from policies.toy import Toy
from search.errors import ConfigError, PolicyError

NOT_JOINED = type("ray", (), {"is_initialized": staticmethod(lambda: False)})


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_an_actor_has_its_environment_and_its_errors(nodes, requests_of):
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
@pytest.mark.parametrize(("placement", "places"), [("strict_spread", 2), ("strict_pack", 1)])
async def test_a_placement_group_puts_replicas_where_it_says(placement, places, nodes, requests_of):
    import ray

    hosting = Ray(replicas=2, cpus=0.5, memory=1 << 20, placement=placement, health=1.0)
    async with hosting.policy(doubles.Frail) as pooled:

        def there():
            return {slot.replica.ask("node", (), 5.0) for slot in pooled.pool._slots.values()}

        assert len(await asyncio.to_thread(there)) == places
        kill(pooled.pool._slots[0].replica)  # its place is kept for the next
        await until(lambda: pooled.counters.replaced and len(pooled.pool._slots) == 2)
        assert len(await asyncio.to_thread(there)) == places
        assert await pooled.sample(requests_of(4)) == await Toy().sample(requests_of(4))
    states = {group["state"] for group in ray.util.placement_group_table().values()}
    assert states == {"REMOVED"}, "its room is given back"


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_a_node_leaves_and_comes_back(nodes, requests_of):
    requests = requests_of(24)
    wanted = await Toy().sample(requests)
    hosting = Ray(replicas=2, cpus=2.0, retries=30, health=1.0)  # a node has room for one
    async with hosting.policy(partial(doubles.Frail, seconds=0.05)) as pooled:
        calls = asyncio.gather(*(pooled.sample([request]) for request in requests))
        await asyncio.sleep(0.02)
        nodes.lose()  # with what it was working on
        assert [answer for (answer,) in await calls] == wanted
        counters = pooled.counters
        assert counters.replaced.get("died", 0) + counters.replaced.get("silent", 0) >= 1
        assert counters.again > 0 and counters.items == 24 and len(pooled.pool._slots) == 1
        nodes.regain()
        await until(lambda: len(pooled.pool._slots) == 2)
        assert await pooled.sample(requests) == wanted


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_actors_are_added_for_a_long_queue_and_let_go_when_idle(nodes, requests_of):
    hosting = Ray(replicas=1, most=2, rows=2, cpus=0.2, health=0.2, idle=0.5)
    async with hosting.policy(partial(doubles.Frail, seconds=0.05)) as pooled:
        calls = asyncio.gather(*(pooled.sample([request]) for request in requests_of(200)))
        await until(lambda: len(pooled.pool._slots) == 2)
        assert [reply for (reply,) in await calls] == await Toy().sample(requests_of(200))
        await until(lambda: len(pooled.pool._slots) == 1)
        assert pooled.counters.grown == pooled.counters.shrunk == 1 and pooled.counters.items == 200


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "why"), [("hang", "hung"), ("garbage", "garbage"), ("die", "died")])
async def test_actors_that_fail_are_replaced_and_no_answer_changes(kind, why, nodes, requests_of, tmp_path):
    build = partial(doubles.Frail, folder=str(tmp_path), accidents=2, kind=kind, chance=0.6)
    async with Ray(replicas=2, cpus=0.2, retries=20, deadline=2.0, health=1.0).policy(build) as pooled:
        rounds = 0
        while len(list(tmp_path.iterdir())) < 2:
            requests = requests_of(12, seeds=(rounds, rounds + 1))
            answers = await asyncio.gather(*(pooled.sample([request]) for request in requests))
            assert [answer for (answer,) in answers] == await Toy().sample(requests)
            rounds += 1
        assert pooled.counters.items == 12 * rounds, "nothing lost, nothing counted twice"
        assert pooled.counters.replaced[why] >= 1 and pooled.counters.lost_seconds > 0
        assert (pooled.counters.lost_tokens > 0) == (kind == "garbage")


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_an_actor_that_dies_at_work_is_known_at_once(nodes):
    port = Port("square", by_content, anything, PolicyError)
    async with Ray(replicas=1, cpus=0.25, retries=0, health=60.0).pool(doubles.Slow) as pool:
        ((_, _, pid, *_),) = await pool(port, [0])
        call = asyncio.create_task(pool(port, [60]))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PolicyError, match="the replica was lost each time: ActorDiedError"):
            await call
        assert time.monotonic() - began < 5
        ((*_, other, _, _),) = await pool(port, [0])
        assert other != pid and pool.counters.replaced == {"died": 1}


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_what_cannot_be_sent_or_read_is_an_error_of_that_call_alone(nodes):
    async with Ray(replicas=1, cpus=0.25, retries=0).pool(doubles.Odd) as pool:
        await odd_messages(pool)


def refuse(address, secret, limit):
    raise ConnectionRefusedError(111, "Connection refused")


WAYS = {
    r"cannot be reached at .+:\d+ \(Connection refused\): give a range": refuse,
    r"cannot be reached at .+ it does not know the secret": lambda at, _, limit: connect(at, b"guessed", limit),
}


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sentence", WAYS)
async def test_an_actor_that_cannot_be_reached_is_one_sentence(sentence, nodes, monkeypatch):
    monkeypatch.setattr("policies.pool.actor.connect", WAYS[sentence])
    with refused(f"pool.ports=None is not valid: .+{sentence}"):
        async with Ray(replicas=1, cpus=0.25).policy(Toy):
            pass


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_actors_listen_on_the_ports_that_are_named(nodes):
    with socket.create_server(("", 0)) as taken:
        port = min(taken.getsockname()[1], 60000)
        async with Ray(replicas=2, cpus=0.25, ports=(port, port + 200)).policy(Toy) as pooled:
            there = [slot.replica._connection.getpeername()[1] for slot in pooled.pool._slots.values()]
            assert all(port < other <= port + 200 for other in there)
        with refused(r"over a port of its node, and it has none there \(Address already in use"):
            async with Ray(replicas=1, cpus=0.25, ports=(taken.getsockname()[1],) * 2).policy(Toy):
                pass


async def until(true, seconds=60.0):
    """Waits for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_more_than_the_cluster_has_is_one_sentence(nodes, monkeypatch):
    monkeypatch.setattr(cluster, "COLD", 1.0)  # nobody is about to join
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
    monkeypatch.setitem(sys.modules, "ray", NOT_JOINED)
    with refused("no Ray cluster answers there"):
        async with Ray(address=address).policy(Toy):
            pass
    with refused("give host:port"):
        async with Ray(address="nowhere").policy(Toy):
            pass


async def test_more_devices_than_this_machine_has_is_one_sentence(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "ray", NOT_JOINED)
    with refused("4 replicas need 4000 and this machine has"):
        async with Ray(replicas=4, gpus=1000.0).policy(Toy):
            pass


@pytest.mark.parametrize(
    ("field", "value"), [("placement", "anywhere"), ("gpus", -1.0), ("ports", [9, 5]), ("ports", 20000)]
)
def test_wrong_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Ray(**{field: value})


def test_a_pool_of_ray_has_the_rules_of_any_other():
    ours = {name for name in Local.__dataclass_fields__ if name not in ("workers", "environment")}
    assert ours <= set(Ray.__dataclass_fields__)
