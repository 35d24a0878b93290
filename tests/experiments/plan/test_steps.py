"""Draws of an engine begin with its steps: by hand, and the formulas beside the simulation."""

from __future__ import annotations

import random

import pytest

from experiments.plan import model
from experiments.plan.demand import demands
from experiments.plan.script import Ask, Phase, Script, Work, stepped
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station

SECOND = Station(rate=1, full=8, rows=8, stepwise=True)  # a step is a second, whatever is in it


def ends(lengths, arrivals, station=SECOND):
    scripts = [
        Script(f"{number}".encode(), (-1,), (0,), (Phase("policy", (Ask(0, (length,)),)),))
        for number, length in enumerate(lengths)
    ]
    return sorted(Fleet(stations={"policy": station}).run(scripts, arrivals=arrivals).ends)


@pytest.mark.parametrize(
    ("lengths", "arrivals", "wanted"),
    [
        ([3.0], [0.3], [3.3]),  # where nothing is at work it begins at once
        ([3.0, 2.0], [0.0, 0.5], [3.0, 3.0]),  # half a second waited
        ([3.0, 2.0], [0.0, 1.0], [3.0, 3.0]),  # just in time
        ([1.0, 2.0, 2.0], [0.25, 0.5, 1.0], [1.25, 3.25, 3.25]),  # all who wait begin together
        ([1.0, 1.0], [0.0, 5.5], [1.0, 6.5]),
        ([2.5, 1.0], [0.0, 2.2], [2.5, 3.5]),  # a draw that ends within a step ends it
    ],
)
def test_who_comes_while_a_step_is_under_way_waits_for_its_end(lengths, arrivals, wanted):
    assert ends(lengths, arrivals) == pytest.approx(wanted)


def test_who_waits_makes_no_step_longer():
    station = Station(rate=1, full=1, rows=2, stepwise=True)  # a second per row
    assert ends([2.0, 1.0], [0.0, 0.5], station) == pytest.approx([3.0, 3.0]), "1 s alone, then 2 s for both"
    at_any_time = Station(rate=1, full=1, rows=2)
    assert ends([2.0, 1.0], [0.0, 0.5], at_any_time) == pytest.approx([2.5, 3.0])


def test_a_lost_replica_loses_those_who_wait_too():
    fleet = Fleet(stations={"policy": SECOND}, faults={"policy": Faults(between=3.0, start=0.5)})
    rng = random.Random(0)
    scripts = [
        Script(f"{i}".encode(), (-1,), (0,), (Phase("policy", (Ask(0, (rng.randrange(1, 4),)),)),)) for i in range(60)
    ]
    outcome = fleet.run(scripts, arrivals=[0.2 * i for i in range(60)])
    assert len(outcome.ends) == 60


def test_verdicts_take_a_step_and_draw_nothing():
    """A child of a node that was judged is as new to the verifier as before."""
    verdicts = [Phase("verifier", (Ask(1),)), Phase("verifier", (Ask(2),))]
    script = Script(b"", (-1, 0, 1), (10.0, 5.0, 7.0), verdicts)
    plain, taken = demands([script])["verifier"], demands(stepped([script], "verifier"))["verifier"]
    assert plain.reads == taken.reads == (15 + 7) / 2
    assert (plain.tokens, taken.tokens) == (0, 1)
    station = Station(rate=2, full=2e6, rows=10**6, prefill=10, stepwise=True)
    outcome = Fleet(stations={"verifier": station}).run(stepped([script], "verifier"))
    assert outcome.wall == pytest.approx(1.5 + 0.7 + 2 * 0.5)


@pytest.mark.parametrize("concurrency", [1, 6, 24])
def test_formulas_for_steps_are_near_the_simulation(concurrency):
    work = Work(prompt=50, steps=6, requests=3, draws=4, tokens=12, spread=0.5, passes=0).scripts(150, 0)
    whole = [Script(s.key, s.parents, s.sizes, [Phase(p.station, _whole(p.asks)) for p in s.phases]) for s in work]
    station = Station(rate=500, full=12000, rows=256, prefill=50000, stepwise=True, replicas=1)
    wall = Fleet(stations={"policy": station}).run(whole, concurrency=concurrency).wall
    rates = model.throughputs({"policy": station}, demands(whole), concurrency, {})
    assert model.wall(rates, len(whole)) == pytest.approx(wall, rel=0.08)


def _whole(asks):
    return tuple(Ask(ask.node, tuple(max(round(length), 1) for length in ask.lengths)) for ask in asks)


def test_requests_on_their_way_wait_for_nobody():
    """A second there and back for each wave; with many problems in work others are solved meanwhile."""
    near = Station(rate=1, full=1, rows=1)
    far = Station(rate=1, full=1, rows=1, way=1.0)
    work = [Script(f"{i}".encode(), (-1,), (0,), [Phase("policy", (Ask(0, (0.5,)),))] * 3) for i in range(50)]
    alone, later = (Fleet(stations={"policy": each}).run(work, concurrency=1).wall for each in (near, far))
    assert (alone, later) == (pytest.approx(75), pytest.approx(75 + 150))
    assert Fleet(stations={"policy": far}).run(work, concurrency=10).wall == pytest.approx(75, rel=0.05)
    for concurrency, wanted in ((1, 225), (10, 77)):
        rates = model.throughputs({"policy": far}, demands(work), concurrency, {})
        assert model.wall(rates, len(work)) == pytest.approx(wanted, rel=0.06)
    assert model.opened({"policy": far}, demands(work), 0.01, {}).seconds == pytest.approx(4.5, rel=0.05)
    assert model.bound({"policy": far}, demands(work), 1, {}) == pytest.approx(1 / 4.5)
