"""A clean environment, and where the shared data is."""

import os
from pathlib import Path

import pytest

GIVEN = os.environ.get("TREEWISE_DATA")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    """Tests that need a data folder say which."""
    monkeypatch.delenv("TREEWISE_DATA", raising=False)


@pytest.fixture
def data() -> Path:
    """The folder that holds `benchmarks`."""
    folder = Path(GIVEN or ROOT.parent / "shared" / "data")
    if not (folder / "benchmarks").is_dir():
        pytest.skip(f"no shared data in {folder}; set TREEWISE_DATA to a folder with benchmarks/")
    return folder
