"""`python -m experiments.plan`: a table and JSON, from numbers and from a run; one sentence for what is wrong."""

from __future__ import annotations

import json
import math

import pytest

from experiments.plan import explore
from experiments.plan.__main__ import main
from experiments.plan.recorded import recorded
from experiments.plan.script import Work
from experiments.plan.station import Station
from search.errors import ConfigError

GIVEN = ["policy.rate=50", "policy.full=2000", "policy.rows=64", "policy.prefill=8000", "verifier.prefill=20000"]


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan(capsys, *arguments):
    assert main([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_replicas_are_the_least_that_keep_to_the_limits(capsys):
    wanted = ["problems_per_hour=3000", "policy.price=2.5", "verifier.price=0.5", "waiting=0.5", "simulate=false"]
    found = plan(capsys, *GIVEN, *wanted)
    policy, verifier = found["stations"]["policy"], found["stations"]["verifier"]
    assert policy["load"] <= 0.8 < policy["load"] * policy["replicas"] / (policy["replicas"] - 1)
    assert found["binding"] == "policy" and policy["most"] == min(s["most"] for s in found["stations"].values())
    assert found["per_hour"] == policy["replicas"] * 2.5 + verifier["replicas"] * 0.5
    assert found["per_thousand"] == pytest.approx(found["per_hour"] / 3)
    assert found["concurrency"] == pytest.approx(3000 / 3600 * found["seconds"]), "Little's law"
    strict = plan(capsys, *GIVEN, *wanted, "waiting=0.02")
    assert strict["stations"]["policy"]["replicas"] > policy["replicas"]
    assert strict["stations"]["policy"]["waiting"] <= 0.02 < policy["waiting"]
    half = plan(capsys, *GIVEN, *wanted, "utilisation=0.4")
    assert half["stations"]["policy"]["replicas"] == pytest.approx(2 * policy["replicas"], abs=1)


def test_what_helps_needs_fewer_replicas(capsys):
    wanted = ["problems_per_hour=6000", "waiting=0.9", "simulate=false"]

    def replicas(*more):
        return plan(capsys, *GIVEN, *wanted, *more)["stations"]["policy"]["replicas"]

    base = replicas()
    assert replicas("policy.acceptance=0.8", "policy.guesses=3", "policy.rate=200") < base
    assert replicas("hits=0.2") > base, "prompts are computed again"
    assert replicas("work.tokens=100") > 1.5 * base


def test_the_simulation_stands_beside_the_formulas(capsys):
    found = plan(capsys, *GIVEN, "problems_per_hour=1500")
    assert found["simulated"]["seconds"] == pytest.approx(found["seconds"], rel=0.15)
    assert found["simulated"]["p50"] <= found["simulated"]["p99"]
    assert found["stations"]["verifier"]["busy"] == pytest.approx(found["stations"]["verifier"]["load"], rel=0.2)
    replicas = ["policy.replicas=2", "verifier.replicas=1"]
    found = plan(capsys, *GIVEN, "problems=200", "concurrency=12", *replicas)
    chance, even, least = found["wall"]
    assert least <= found["simulated"]["wall"] <= 1.05 * chance and even <= chance
    assert math.isfinite(found["seconds"])


def test_the_table_names_what_is_full_first(capsys):
    assert main([*GIVEN, "problems_per_hour=600", "grader.seconds=30", "grader.rows=4", "simulate=false"]) == 0
    said = capsys.readouterr().out
    assert "grader" in said and "binding: " in said and "price per 1,000 problems" in said


def test_the_work_of_a_run_is_that_of_its_traces(tmp_path, capsys, solve):
    assert solve("search=beam", "limit=4", f"out={tmp_path / 'run'}") == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    found = recorded(tmp_path / "run")
    assert len(found.scripts) == 4
    for name in ("generated", "prefilled", "policy_calls"):
        assert getattr(found.policy, name) == sum(row["cost"][name] for row in rows)
    assert found.verifier.passes == sum(row["cost"]["passes"] for row in rows)
    asks = [(phase.station, ask) for script in found.scripts for phase in script.phases for ask in phase.asks]
    assert sum(sum(ask.lengths) for station, ask in asks if station == "policy") == found.policy.generated
    assert sum(station == "verifier" for station, _ in asks) == found.verifier.passes
    deepest = max(len(script.phases) for script in found.scripts)
    assert deepest == 2 * max(row["depth"] for row in rows), "a wave of draws and one of verdicts per step"
    capsys.readouterr()
    given = [f"run={tmp_path / 'run'}", *GIVEN, "problems_per_hour=5000", "simulate=false"]
    assert plan(capsys, *given)["stations"]["policy"]["replicas"] >= 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["problems_per_hour=10"], "policy.rate=None is not valid: give tokens per second of one draw"),
        ([*GIVEN], "problems_per_hour=None is not valid"),
        ([*GIVEN, "problems=10"], "concurrency=None is not valid"),
        ([*GIVEN, "problems=10", "concurrency=2"], "policy.replicas=None is not valid: give their number"),
        ([*GIVEN, "problems_per_hour=-1"], "problems_per_hour=-1 is not valid"),
        ([*GIVEN, "problems_per_hour=10", "utilisation=1.5"], "utilisation=1.5 is not valid"),
        ([*GIVEN, "problems_per_hour=10", "hits=2"], "hits=2 is not valid"),
        ([*GIVEN, "problems_per_hour=10", "policy.speed=2"], "there is no option 'speed' here"),
        ([*GIVEN, "problems_per_hour=10", "policy.rows=0"], "policy.rows=0 is not valid"),
        ([*GIVEN, "problems_per_hour=10", "work.steps=0"], "work.steps=0 is not valid"),
        ([*GIVEN, "problems_per_hour=100000", "policy.replicas=1"], "can do"),
        (["run=nowhere", "problems_per_hour=10"], "no row of it has a trace"),
        (["plans"], "'plans' is not valid: choose from plan, explore, check"),
        (["--format", "xml"], "--format='xml' is not valid"),
        (["explore", "replicas=0"], "replicas=0 is not valid"),
        (["explore", "losses=[-1]"], "losses=-1 is not valid"),
        (["check", "replicas=2"], "replicas=2 is not valid: give a list"),
        (["check", "rounds=0"], "rounds=0 is not valid: give a whole number of at least 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_status_two(arguments, sentence, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_an_exploration_shows_what_routing_is_for(capsys):
    small = ["replicas=20", "problems=150", "spreads=[0.5,1.2]", "losses=[null,200]", "start=20"]
    assert main(["explore", *small, "--format", "json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == 12 and all(cell["failed"] == 0 for cell in cells)
    by = {(cell["routing"], cell["spread"], cell["between"]): cell for cell in cells}
    for spread in (0.5, 1.2):
        assert by["affine", spread, None]["hits"] > 0.85 > 0.5 > by["random", spread, None]["hits"]
        assert by["affine", spread, None]["per_hour"] > by["random", spread, None]["per_hour"]
        assert by["affine", spread, 200]["lost"] > 0 == by["affine", spread, None]["lost"]
        assert by["affine", spread, 200]["replaced"] > 0
    assert by["affine", 1.2, None]["p99"] > by["affine", 0.5, None]["p99"], "stragglers"
    assert main(["explore", *small]) == 0
    assert "routing" in capsys.readouterr().out


def test_a_pool_of_hundreds_is_simulated_in_a_moment():
    station = Station(rate=50, full=2000, rows=64, prefill=8000, replicas=300)
    work = Work(prompt=400, steps=2)
    cells = list(explore.explore(station, work, problems=600, spreads=(0.5,), losses=(None,), start=60, seed=0))
    assert [cell.routing for cell in cells] == list(explore.ROUTINGS)


def test_work_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="passes"):
        Work(passes=2)
