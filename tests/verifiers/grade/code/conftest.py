"""Sandboxes for the tests: one that is shared, one of each kind that works here."""

from __future__ import annotations

import pytest

from verifiers.grade.code.pool import Pool
from verifiers.grade.code.program import Limits
from verifiers.grade.code.sandbox import NoIsolation, Sandbox

TIGHT = Limits(
    cpu=0.5, wall=0.5, memory=256 << 20, processes=16, file=2 << 20, scratch=4 << 20, output=1 << 20
)  # fmt: skip


@pytest.fixture(scope="session")
def limits() -> Limits:
    return TIGHT


@pytest.fixture(scope="session")
def pool():
    """Under tight limits, by the isolation that is chosen here."""
    with Pool(workers=2, limits=TIGHT) as shared:
        yield shared


@pytest.fixture(scope="session", params=["namespaces", "bubblewrap", "limits"])
def sandbox(request):
    """One of each kind."""
    made = Sandbox(request.param, TIGHT)
    try:
        made.start()
    except NoIsolation as error:
        pytest.skip(f"not on this machine: {error}")
    yield made
    made.close()
