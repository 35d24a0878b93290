"""Real runs over pools of one and two processes take as long as foretold (TREEWISE_FULL=1; a minute)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from experiments.plan import check
from experiments.plan.recorded import recorded
from experiments.plan.station import Station

sys.path.append(str(Path(__file__).resolve().parents[1] / "parts"))  # replicas get this path too

STATION = {"rate": 5.0, "full": 60.0, "rows": 32}


@pytest.mark.skipif(os.environ.get("TREEWISE_FULL") != "1", reason="waits for a minute in all: TREEWISE_FULL=1")
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_real_run_takes_as_long_as_foretold(replicas, tmp_path):
    """The replicas wait instead of computing, so that what else this machine does matters little."""
    paced = [f"+policy.{name}={value}" for name, value in STATION.items()]
    settings = {
        "task": "toy",
        "search": "beam",
        "seed": 0,
        "limit": 40,
        "concurrency": 8,
        "verifiers": 1,
        "overrides": [
            "policy=toy",
            "verifier=toy",
            "steps=token",
            "task.count=40",
            "policy._target_=paced_parts.Paced",
            "policy.end=0.2",
            *paced,
            "pool.parts=[policy]",
            "pool.rows=32",
        ],
    }
    wall, _, _ = check.timed(settings, replicas, tmp_path / "run")
    work = recorded(tmp_path / "run").scripts
    work = [policy_alone(script) for script in work]
    found = check.foretold(settings, {"policy": Station(**STATION)}, work, replicas, 3600 * len(work) / wall, 0.0)
    print(found)
    assert found.simulated == pytest.approx(found.measured, rel=0.15)
    assert found.chance == pytest.approx(found.measured, rel=0.3)


def policy_alone(script):
    """Without the verdicts, which take no time here."""
    return type(script)(script.key, script.parents, script.sizes, [p for p in script.phases if p.station == "policy"])
