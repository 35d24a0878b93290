"""Where the shared data is, and a pool for the tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from verifiers.grade.pool import Pool

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder that holds `dev` and `benchmarks`."""
    folder = Path(os.environ.get("TREEWISE_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "dev").is_dir():
        pytest.skip(f"no shared data in {folder}; set TREEWISE_DATA to a folder with dev/ and benchmarks/")
    return folder


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """One process that can compare answers."""
    with Pool(workers=1) as shared:
        yield shared
