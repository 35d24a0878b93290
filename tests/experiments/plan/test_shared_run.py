"""A plan from a run whose models told their pace: rates, driver and host are its own; what it cannot tell is asked."""

from __future__ import annotations

import json
import random

import pytest

from experiments.plan.__main__ import main
from policies.engine.pace import Did, Pace


def steps(make, count=1500):
    """What a replica tells of steps of 2 ms, 0.05 per row, 0.02 per prompt token, 0.1 per call."""
    rng, pace = random.Random(0), Pace("cpu", 1)
    for _ in range(count):
        did = make(rng)
        pace.observe(did, 2e-3 + 5e-5 * did.rows + 2e-5 * did.read + 1e-4 * did.calls)
    told = pace.told()
    return {**told, "process": 2, "processor": told["sums"][-1][-1] + 1e-4 * told["sums"][3][-1]}


def draws(rng):
    rows, calls = rng.randrange(1, 100), rng.choice((0, 1, 4))
    return Did(rows, rows, calls * rng.choice((1, 30)), calls)


def verdicts(rng):
    calls = rng.choice((1, 2, 8))
    return Did(0, 0, sum(rng.randrange(5, 60) for _ in range(calls)), calls)


@pytest.fixture
def run(tmp_path, solve):
    """A run on the toy world, its times put in."""
    assert solve("search=beam", "limit=6", f"out={tmp_path / 'run'}") == 0

    def put(policy=draws, alone=True):
        path = tmp_path / "run" / "run.json"
        driver = {"processor": 0.05, "wall": 2.0, "requests": 1000, "process": 1}
        paces = {"policy": [{**steps(policy), "alone": alone}], "verifier": [steps(verdicts)]}
        path.write_text(json.dumps({**json.loads(path.read_text()), "pace": {"cores": 2, "driver": driver, **paces}}))
        return f"run={tmp_path / 'run'}"

    return put


def plan(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments, "simulate=false"]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_a_run_tells_how_many_problems_its_own_machine_can_do(run, capsys):
    where = [run(), "problems=200", "concurrency=16", "policy.replicas=2", "verifier.replicas=2", "driver.replicas=1"]
    two = plan(capsys, *where)
    assert set(two["stations"]) == {"policy", "verifier", "driver", "host"}
    assert two["binding"] == "host" and two["stations"]["host"]["replicas"] == 1
    assert two["rate"] <= two["stations"]["host"]["most"]
    assert two["stations"]["host"]["busy"] <= 1
    assert two["simulated"]["rate"] == pytest.approx(two["rate"], rel=0.15)
    assert any(note == "driver: 0.05 ms per request, of the run" for note in two["notes"])
    many = plan(capsys, *where, "host.cores=64")
    assert many["binding"] != "host" and many["rate"] > 1.2 * two["rate"]


def test_machines_are_counted_and_paid(run, capsys):
    where = [run(), "host.price=3", "host.cores=2", "simulate=false"]
    rate = plan(capsys, *where, "problems_per_hour=100")["stations"]["host"]["most"]
    found = plan(capsys, *where, f"problems_per_hour={3 * rate:.0f}", "driver.replicas=null")
    host = found["stations"]["host"]
    assert host["replicas"] >= 4 and host["load"] <= 0.8
    assert found["per_hour"] == 3 * host["replicas"]
    said = refused(capsys, *where, f"problems_per_hour={3 * rate:.0f}", "host.replicas=1", "driver.replicas=null")
    assert said.startswith("host.replicas=1 is not valid: ") and "give more" in said


def test_models_on_devices_of_their_own_share_nothing(run, capsys):
    where = [run(alone=False), "problems=200", "concurrency=16", "policy.replicas=2", "verifier.replicas=2"]
    found = plan(capsys, *where, "simulate=false")
    assert set(found["stations"]) == {"policy", "verifier", "driver"}
    shared = plan(capsys, *where, "simulate=false", "host.cores=1")
    assert "host" in shared["stations"] and shared["rate"] < found["rate"], "the verifier and the driver share it"


def test_what_the_run_cannot_tell_is_asked_for(run, capsys):
    where = [run(policy=lambda rng: Did(4, 4, 0, 0)), "problems_per_hour=100"]
    said = refused(capsys, *where)
    assert said.startswith("policy.rate=None is not valid: ") and "give policy.rate" in said
    given = ["policy.rate=300", "policy.full=5000", "policy.rows=64", "policy.prefill=9000"]
    assert plan(capsys, *where, *given, "simulate=false")["stations"]["policy"]["replicas"] == 1


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("host.cores=0", "host.cores=0 is not valid: give a whole number of at least 1"),
        ("host.price=-1", "host.price=-1 is not valid: give a number of at least 0"),
        ("driver.seconds=-1", "driver.seconds=-1 is not valid: give a number of at least 0"),
    ],
)
def test_wrong_settings(run, capsys, setting, sentence):
    assert sentence in refused(capsys, run(), "problems_per_hour=100", "host.cores=2", setting)
