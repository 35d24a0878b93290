"""The main job on the toy world, called in this process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.commandline import CONF
from experiments.solve import main


def _settings(*overrides: str) -> dict[str, Any]:
    """The whole configuration these overrides give, as plain values."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


def _solve(*arguments: str) -> int:
    """Exit status of `python -m experiments.solve debug=toy ...`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["solve", "debug=toy", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code


def _without_times(folder: Path) -> list[str]:
    """The lines of results.jsonl, what depends on the clock left out."""
    lines = []
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["wall"], row["cost"]["seconds"], row["cost"]["speculated"]
        lines.append(json.dumps(row))
    return lines


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    """What a user's machine holds must not change a test."""
    monkeypatch.delenv("TREEWISE_DATA", raising=False)


@pytest.fixture
def settings():
    return _settings


@pytest.fixture
def solve():
    return _solve


@pytest.fixture
def without_times():
    return _without_times
