"""Parts that can be imported wherever replicas run; requests; one Ray cluster for all tests that need one."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import pytest

PARTS = str(Path(__file__).resolve().parent / "parts")
if PARTS not in sys.path:
    sys.path.append(PARTS)  # processes and actors get this path too

from policies.toy import Toy  # noqa: E402
from search.steps import Tokens  # noqa: E402
from search.types import Prefix, Request, Sampling  # noqa: E402


@pytest.fixture
def requests_of():
    """`requests_of(n)`: n requests with different prompts; `poison` names those with a word nobody can bear."""

    def make(n, poison=(), seeds=(1, 2)):
        prompts = [f"q{i}{'poison' if i in poison else ''}" for i in range(n)]
        return [
            Request(Prefix(Toy().prompt([{"content": prompt}])), Sampling(until=Tokens(2)), seeds) for prompt in prompts
        ]

    return make


class Nodes:
    """A Ray cluster of two nodes on this machine; the driver and the head are on one, the other may be lost."""

    def __init__(self):
        import ray
        from ray.cluster_utils import Cluster

        self.before = {name: os.environ.get(name) for name in ("RAY_AUTH_MODE", "PYTHONPATH")}
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # what can be imported here can be there
        self.size = {"num_cpus": 2, "object_store_memory": 80 << 20}
        self.cluster = Cluster(initialize_head=True, head_node_args={**self.size, "include_dashboard": False})
        self.regain()
        ray.init(address=self.cluster.address, log_to_driver=False)

    def regain(self):
        """The second node comes, or comes back."""
        self.other = self.cluster.add_node(**self.size)

    def lose(self):
        """The second node is gone, with everything that works on it."""
        self.cluster.remove_node(self.other)

    def end(self):
        """Everything is as before."""
        import ray

        ray.shutdown()
        self.cluster.shutdown()
        for name, value in self.before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


STARTED = []


@pytest.fixture
def nodes():
    """One small cluster for all tests of this folder; Ray's own warnings are not ours."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    if not STARTED:
        STARTED.append(Nodes())
    return STARTED[0]


def pytest_runtest_teardown(item, nextitem):
    """The cluster ends with the last test of this folder."""
    if STARTED and (nextitem is None or nextitem.path.parent != item.path.parent):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            STARTED.pop().end()
