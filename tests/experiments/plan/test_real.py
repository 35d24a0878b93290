"""Real runs over pools of one and two processes take as long as foretold (TREEWISE_FULL=1; two minutes)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from experiments.plan import check
from experiments.plan.__main__ import main
from experiments.plan.station import Station

sys.path.append(str(Path(__file__).resolve().parents[1] / "parts"))  # replicas get this path too

STATION = {"rate": 5.0, "full": 60.0, "rows": 32}


@pytest.mark.skipif(os.environ.get("TREEWISE_FULL") != "1", reason="waits for a minute in all: TREEWISE_FULL=1")
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_real_run_takes_as_long_as_foretold(replicas, tmp_path):
    """The replicas wait instead of computing, so that what else this machine does matters little."""
    paced = [f"+policy.{name}={value}" for name, value in STATION.items()]
    settings = {
        "set": "toy",
        "method": "beam",
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
    run = check.timed(settings, replicas, tmp_path / "run")
    work = [policy_alone(script) for script in run.scripts]
    known = check.Rates({"policy": Station(**STATION)}, 0.0, None)
    found = check.foretold(settings, known, work, replicas, [(run, 0.0)])
    print(found)
    assert found.simulated == pytest.approx(found.measured, rel=0.15)
    assert found.chance == pytest.approx(found.measured, rel=0.3)


@pytest.mark.skipif(os.environ.get("TREEWISE_FULL") != "1", reason="runs for a minute: TREEWISE_FULL=1")
def test_models_that_share_this_machine_take_as_long_as_foretold(capsys):
    """On a machine that does nothing else; the reference models, a driver and a verifier on all its processors."""
    assert main(["check", "method=beam", "limit=300", "rounds=1", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["host"]["cores"] == os.cpu_count()
    for run in found["runs"]:
        assert run["simulated"] == pytest.approx(run["measured"], rel=0.2)
        assert run["even"] == pytest.approx(run["measured"], rel=0.2)


def policy_alone(script):
    """Without the verdicts, which take no time here."""
    return type(script)(script.key, script.parents, script.sizes, [p for p in script.phases if p.station == "policy"])
