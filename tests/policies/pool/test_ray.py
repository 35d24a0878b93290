"""Replicas as Ray actors: their environment, their errors, and what cannot be had, in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from functools import partial

import pool_doubles as doubles
import pytest

from policies.pool import cluster
from policies.pool.local import Local
from policies.pool.ray import Ray
from policies.toy import Toy
from search.errors import ConfigError

NOT_JOINED = type("ray", (), {"is_initialized": staticmethod(lambda: False)})


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
async def test_an_actor_has_its_environment_and_its_errors(nodes, requests_of):
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


@pytest.mark.parametrize(("field", "value"), [("placement", "anywhere"), ("gpus", -1.0)])
def test_wrong_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match=field):
        Ray(**{field: value})


def test_a_pool_of_ray_has_the_rules_of_any_other():
    ours = {name for name in Local.__dataclass_fields__ if name not in ("workers", "environment")}
    assert ours <= set(Ray.__dataclass_fields__)
