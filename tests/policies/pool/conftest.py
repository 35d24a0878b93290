"""Parts that can be imported wherever replicas run; requests; one Ray cluster for all tests that need one."""

from __future__ import annotations

import sys
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
