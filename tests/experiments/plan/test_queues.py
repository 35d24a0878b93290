"""The simulation against queues whose waits are known."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from experiments.plan.demand import demands
from experiments.plan.model import loaded
from experiments.plan.script import Ask, Phase, Script
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station

CUSTOMERS = 20_000


def exponential(seed, mean=1.0, count=CUSTOMERS):
    """Exponential times in a random order, stratified: their mean is exact, which takes most of the noise away."""
    found = [-mean * math.log(1 - (i + 0.5) / count) for i in range(count)]
    random.Random(seed).shuffle(found)
    return found


def queue(lengths, rate, station, seed=0, warm=500):
    """Waits, and times until the answer, of customers with these lengths who come at random to one replica."""
    scripts = [Script(b"", (-1,), (0,), (Phase("policy", (Ask(0, (length,)),)),)) for length in lengths]
    arrivals = list(itertools.accumulate(exponential(f"arrivals {seed}", 1 / rate, len(lengths))))
    outcome = Fleet(stations={"policy": station}).run(scripts, arrivals=arrivals)
    waits = outcome.pools["policy"].waits
    return waits.queued[warm:], waits.whole[warm:], outcome


def erlang_c(servers, load):
    """The chance to wait for one of `servers` (Erlang 1917)."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(load**n / math.factorial(n) for n in range(servers)) + last)


def agrees(values, wanted, within):
    assert statistics.fmean(values) == pytest.approx(wanted, rel=within)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_server_with_exponential_lengths_waits_as_known(load):
    queued, whole, outcome = queue(exponential(1), load, Station(rate=1, full=1, rows=1))
    agrees(queued, load / (1 - load), 0.06)
    agrees(whole, 1 / (1 - load), 0.05)
    assert outcome.busy("policy") == pytest.approx(load, rel=0.015)
    assert statistics.fmean(w > 0 for w in queued) == pytest.approx(load, rel=0.02)
    # the tail: P(T > t) = exp(-(1 - load) t)
    t = 3 / (1 - load)
    assert statistics.fmean(w > t for w in whole) == pytest.approx(math.exp(-3), rel=0.15)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (5, 0.75), (12, 0.8)])
def test_several_servers_wait_as_erlang_says(servers, load):
    station = Station(rate=1, full=servers, rows=servers)  # a row's speed is its own
    queued, whole, _ = queue(exponential(2), servers * load, station)
    chance = erlang_c(servers, servers * load)
    assert statistics.fmean(w > 0 for w in queued) == pytest.approx(chance, rel=0.06)
    agrees(queued, chance / (servers * (1 - load)), 0.1)
    agrees(whole, 1 + chance / (servers * (1 - load)), 0.03)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_equal_lengths_wait_half_as_long(load):
    queued, _, _ = queue([1.0] * CUSTOMERS, load, Station(rate=1, full=1, rows=1))
    agrees(queued, load / (2 * (1 - load)), 0.05)


@pytest.mark.parametrize("servers", [1, 3, 8])
def test_every_customer_waits_as_the_recursion_says(servers):
    """Lindley's recursion, with Kiefer and Wolfowitz's for several servers: each goes to the one that is free first."""
    lengths, free, wanted, time = exponential(6, count=5000), [0.0] * servers, [], 0.0
    for length, between in zip(lengths, exponential("arrivals 7", 1 / (0.85 * servers), 5000), strict=True):
        time += between
        free.sort()
        wanted.append(max(free[0] - time, 0.0))
        free[0] = max(free[0], time) + length
    station = Station(rate=1, full=servers if servers > 1 else 1, rows=servers)
    queued, _, _ = queue(lengths, 0.85 * servers, station, seed=7, warm=0)
    assert queued == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", ["exponential", "equal", "two"])
def test_a_shared_server_does_not_mind_the_lengths(kind):
    """Processor sharing: the mean time is that of exponential lengths, whatever they are (Kleinrock 1976, 4.4)."""
    two = [0.5 if i % 10 else 5.5 for i in range(CUSTOMERS)]
    random.Random("two").shuffle(two)
    lengths = {"exponential": exponential(0), "equal": [1.0] * CUSTOMERS, "two": two}[kind]
    queued, whole, _ = queue(lengths, 0.7, Station(rate=1))
    assert max(queued) == 0, "nobody waits"
    agrees(whole, 1 / (1 - 0.7), 0.05)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_a_server_slower_the_fuller_it_is_behaves_as_the_formula_says(load):
    """A birth-death chain: a step of 1 s for one row and 1/16 s more for each, at most 8 rows."""
    station = Station(rate=1, full=8 / 1.4375, rows=8)
    assert station.step(1) == pytest.approx(1) and station.step(8) == pytest.approx(1.4375)
    script = Script(b"", (-1,), (0,), (Phase("policy", (Ask(0, (1.0,)),)),))
    rate = load * 8 / 1.4375
    known = loaded(station, demands([script])["policy"], rate)
    queued, whole, outcome = queue(exponential(4), rate, station)
    assert known.utilisation == pytest.approx(load)
    agrees(whole, known.seconds, 0.04)
    assert statistics.fmean(w > 0 for w in queued) == pytest.approx(known.waiting, rel=0.12, abs=0.002)
    assert outcome.busy("policy") == pytest.approx(known.busy, rel=0.01)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_prompts_wait_for_their_turn_as_pollaczek_and_khinchine_say(load):
    sizes = [0.4, 1.6] * (CUSTOMERS // 2)
    random.Random(5).shuffle(sizes)
    scripts = [
        Script(f"{i}".encode(), (-1,), (1000 * size,), (Phase("verifier", (Ask(0),)),)) for i, size in enumerate(sizes)
    ]
    arrivals = list(itertools.accumulate(exponential("arrivals", 1 / load, len(scripts))))
    station = Station(prefill=1000)
    outcome = Fleet(stations={"verifier": station}).run(scripts, arrivals=arrivals)
    known = loaded(station, demands(scripts)["verifier"], load)
    agrees(outcome.pools["verifier"].waits.whole[500:], known.seconds, 0.04)
    assert known.seconds == pytest.approx(1 + load * (1 + 0.36) / (2 * (1 - load)), rel=0.01)


def test_the_formulas_are_erlangs_where_a_rows_speed_is_its_own():
    script = Script(b"", (-1,), (0,), (Phase("policy", (Ask(0, (1.0,)),)),))
    for servers in (1, 3, 10):
        for load in (0.2, 0.7, 0.95):
            station = Station(rate=1, full=servers, rows=servers)
            found = loaded(station, demands([script])["policy"], servers * load)
            chance = erlang_c(servers, servers * load)
            assert found.waiting == pytest.approx(chance)
            assert found.seconds == pytest.approx(1 + chance / (servers * (1 - load)))
