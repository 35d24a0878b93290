"""The formulas: by hand, by bounds, and beside the simulation."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from experiments.plan import model
from experiments.plan.demand import Demand, demands
from experiments.plan.script import Ask, Phase, Script, Work, graded
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station
from search.errors import ConfigError


def test_a_step_by_hand():
    station = Station(rate=50, full=2000, rows=64)
    assert station.step(1) == pytest.approx(1 / 50) and station.step(64) == pytest.approx(64 / 2000)
    assert Station(rate=100).step(7) == pytest.approx(0.07), "100 tokens per second whatever is at work"


def test_guesses_are_counted_as_published():
    """Leviathan et al. 2023: with a chance of 0.8 and 4 guesses, 3.36 tokens per check."""
    station = Station(rate=50, acceptance=0.8, guesses=4, draft=0.05, full=50 * 8, rows=8)
    assert station.per_check == pytest.approx(3.3616)
    plain = Station(rate=50, full=50 * 8, rows=8)
    assert plain.step(1) / station.step(1) == pytest.approx(3.3616 / (1 + 4 * 0.05)), "their theorem 3.8"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("rate", {"rate": 0}),
        ("rows", {"full": 10.0, "rate": 1}),
        ("full", {"rate": 5, "full": 4, "rows": 2}),
        ("full", {"rate": 5, "full": 11, "rows": 2}),
        ("acceptance", {"acceptance": 1.0}),
        ("guesses", {"acceptance": 0.5}),
        ("price", {"price": -1}),
    ],
)
def test_a_wrong_station_is_refused(field, values):
    with pytest.raises(ConfigError) as error:
        Station(**values)
    assert error.value.field == field


def test_demand_by_hand():
    """Two waves: one request of two draws of the prompt; two requests of one draw, one for each of these."""
    script = Script(
        b"",
        (-1, 0, 0, 1, 2),
        (10, 4, 6, 2, 2),
        (
            Phase("policy", (Ask(0, (4, 6)),)),
            Phase("verifier", (Ask(1), Ask(2))),
            Phase("policy", (Ask(1, (2,)), Ask(2, (2,)))),
        ),
    )
    found = demands([script])
    policy = found["policy"]
    assert (policy.waves, policy.requests, policy.rows) == (2, 1.5, 2)
    assert (policy.longest, policy.stays, policy.tokens) == (4, 4, 7)
    assert (policy.whole, policy.reads) == ((10 + 14 + 16) / 2, (10 + 1 + 1) / 2)
    assert found["verifier"].reads == 14 + 6, "the prompt once"
    assert policy.hits == pytest.approx(1 - 12 / 40)
    (whole,) = graded([script], {"driver": 0.5, "grader": 2.0})
    assert [phase.station for phase in whole.phases][:2] == ["driver", "policy"]
    assert demands([whole])["driver"].tokens == pytest.approx(0.5 * 5 / 3) and whole.phases[-1].station == "grader"


def test_throughputs_by_hand():
    """Two single servers, 1 s and 2 s: X(n) of the closed network is (2^n - 1) / (2^(n+1) - 1) (Buzen 1973)."""
    needs = {
        "driver": Demand(1, 1, 1, 1, 1, 1, 0, 0),
        "grader": Demand(1, 1, 1, 2, 2, 2, 0, 0),
    }
    one = Station(rate=1, full=1, rows=1, replicas=1)
    found = model.throughputs({"driver": one, "grader": one}, needs, 6, {})
    assert found == pytest.approx([(2**n - 1) / (2 ** (n + 1) - 1) for n in range(1, 7)])
    # two of the second: the same network as three servers of 1 s, by visits of a half each
    twice = {"driver": one, "grader": Station(rate=1, full=1, rows=1, replicas=2)}
    assert model.throughputs(twice, needs, 4, {}) == pytest.approx([n / (n + 2) for n in range(1, 5)])
    even = model.throughputs(twice, needs, 8, {}, even=True)
    assert all(e >= x - 1e-9 for e, x in zip(even, model.throughputs(twice, needs, 8, {}), strict=True))


def test_throughput_keeps_the_bounds_of_operational_analysis():
    """At most n over the time of a problem that is alone, at most what the busiest can do (Denning and Buzen 1978)."""
    needs = demands(Work(steps=4).scripts(50, 0))
    stations = {
        "policy": Station(rate=50, full=1500, rows=48, prefill=5000, replicas=3),
        "verifier": Station(call=0.01, prefill=9000, replicas=2),
    }
    most = min(model.limit(stations, needs, {}).values())
    rates = model.throughputs(stations, needs, 200, {})
    assert rates[0] == pytest.approx(model.bound(stations, needs, 1, {}))
    assert all(rate <= model.bound(stations, needs, n, {}) + 1e-9 for n, rate in enumerate(rates, 1))
    assert rates == sorted(rates) and rates[-1] > 0.95 * most


@pytest.mark.parametrize("load", [0.2, 0.6])
def test_problems_that_come_at_random_take_as_long_in_the_simulation(load):
    scripts = Work(steps=6).scripts(500, 0)
    needs = demands(scripts)
    stations = {
        "policy": Station(rate=50, full=2000, rows=64, prefill=8000, replicas=1),
        "verifier": Station(prefill=20000, call=0.002, replicas=1),
    }
    rate = load * min(model.limit(stations, needs, {}).values())
    rng = random.Random(0)
    arrivals = list(itertools.accumulate(rng.expovariate(rate) for _ in scripts))
    expected = model.opened(stations, needs, rate, {})
    outcome = Fleet(stations=stations).run(scripts, arrivals=arrivals)
    assert statistics.fmean(outcome.seconds[100:]) == pytest.approx(expected.seconds, rel=0.08)
    for name, busy in expected.stations.items():
        assert outcome.busy(name) == pytest.approx(busy.busy, rel=0.1, abs=0.02), name


@pytest.mark.parametrize(("replicas", "concurrency"), [(1, 1), (1, 4), (1, 16), (4, 4), (4, 64)])
def test_problems_in_work_are_solved_as_fast_in_the_simulation(replicas, concurrency):
    scripts = Work(steps=6).scripts(300, 0)
    needs = demands(scripts)
    stations = {
        "policy": Station(rate=50, full=2000, rows=64, prefill=8000, replicas=replicas),
        "verifier": Station(prefill=20000, call=0.002, replicas=1),
    }
    outcome = Fleet(stations=stations).run(scripts, concurrency=concurrency)
    chance, even = (
        model.wall(model.throughputs(stations, needs, concurrency, {}, even=even), 300) for even in (False, True)
    )
    # draws are less random than the formulas take them to be, which tells where all replicas are full and at the end
    assert 0.9999 * 300 / model.bound(stations, needs, concurrency, {}) <= outcome.wall <= 1.05 * chance
    assert outcome.wall == pytest.approx(even, rel=0.15)
    if replicas == 1:
        assert outcome.wall == pytest.approx(chance, rel=0.05) and math.isclose(even, chance, rel_tol=1e-9)


def test_walls_by_hand():
    assert model.wall([0.5, 1.0], 1) == pytest.approx(2)
    assert model.wall([0.5, 1.0], 5) == pytest.approx(3 / 1.0 + 1 / 1.0 + 1 / 0.5)
