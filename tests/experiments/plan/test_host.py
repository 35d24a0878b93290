"""Programs that share processors: cases by hand, queues whose means are known, and the formulas beside them."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from experiments.plan import model, sharing
from experiments.plan.demand import demands
from experiments.plan.host import Host
from experiments.plan.script import Ask, Phase, Script, Work, graded
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station
from search.errors import ConfigError

ONE = Station(rate=1, full=1, rows=1)  # lengths are seconds
MANY = Station(rate=1, full=1, rows=1, replicas=120)  # a program for each who comes
CUSTOMERS = 20_000


def job(*seconds, station="policy"):
    return Script(repr(seconds).encode(), (-1,), (0,), [Phase(station, (Ask(0, (each,)),)) for each in seconds])


def ends(jobs, cores, **how):
    return Fleet(stations={"policy": MANY}, host=Host(cores=cores), routing="least").run(jobs, **how).ends


@pytest.mark.parametrize(
    ("cores", "wanted"),
    [
        (1, [3.0, 7.0, 7.0]),  # a third each until 3; two halves of what is left, 2 each
        (2, [1.5, 3.5, 3.5]),  # two thirds each; then one processor each
        (3, [1.0, 3.0, 3.0]),  # a program is not faster than a processor
        (8, [1.0, 3.0, 3.0]),
    ],
)
def test_jobs_share_processors_evenly(cores, wanted):
    assert ends([job(1.0), job(3.0), job(3.0, 0.0)], cores) == pytest.approx(wanted)


def test_processors_that_all_compute_are_slower():
    crowded = Host(cores=2, crowding=0.5)
    assert [crowded.speed(n) for n in (1, 2, 4)] == pytest.approx([1, 1 / 1.5, 0.5 / 1.5])
    assert Host(cores=3, crowding=0.5).speed(2) == pytest.approx(1 / 1.25), "half way"
    outcome = Fleet(stations={"policy": MANY}, host=crowded, routing="least").run([job(1.0), job(3.0)])
    assert outcome.ends == pytest.approx([1.5, 3.5]), "both at 2/3, then one alone"
    assert outcome.hosts[0].used == pytest.approx(2 * 1.5 + 2)


def test_who_comes_later_makes_the_others_slower_from_then_on():
    # alone until 1; both half as fast: the second, of 1, ends at 3; the first has 1 left then and ends at 4
    assert ends([job(3.0), job(1.0)], 1, arrivals=[0.0, 1.0]) == pytest.approx([3.0, 4.0])


def sojourns(lengths, rate, cores):
    """Times of customers who come at random to a machine where each is a program, by Kleinrock (1976, section 4.4)."""
    rng = random.Random(5)
    gaps = [-math.log(1 - (i + 0.5) / len(lengths)) / rate for i in range(len(lengths))]
    rng.shuffle(gaps)
    arrivals = list(itertools.accumulate(gaps))
    scripts = [Script(str(i).encode(), (-1,), (0,), (Phase("policy", (Ask(0, (x,)),)),)) for i, x in enumerate(lengths)]
    fleet = Fleet(stations={"policy": MANY}, host=Host(cores=cores), routing="least")
    outcome = fleet.run(scripts, arrivals=arrivals)
    return statistics.fmean(outcome.seconds[500:]), outcome


def exponential(mean, count, seed=1):
    found = [-mean * math.log(1 - (i + 0.5) / count) for i in range(count)]
    random.Random(seed).shuffle(found)
    return found


def uneven(count):
    """Nine in ten short, one long: who waits in line would wait for the long ones."""
    found = exponential(0.5, count * 9 // 10) + exponential(5.5, count // 10)
    random.Random(2).shuffle(found)
    return found


@pytest.mark.parametrize("lengths", [exponential(1.0, CUSTOMERS), [1.0] * CUSTOMERS, uneven(CUSTOMERS)])
def test_one_processor_is_the_known_queue_whatever_the_lengths(lengths):
    """M/G/1 processor sharing: mean time 1 / (1 - load), of the lengths' mean alone."""
    mean, outcome = sojourns(lengths, 0.6, 1)
    assert mean == pytest.approx(1 / (1 - 0.6), rel=0.07)
    assert outcome.busy("host") == pytest.approx(0.6, rel=0.02)


@pytest.mark.parametrize("lengths", [exponential(1.0, CUSTOMERS), uneven(CUSTOMERS)])
def test_two_processors_are_the_known_queue(lengths):
    """M/G/2 with a processor per program at most has the mean of M/M/2: 1 / (1 - load**2)."""
    mean, _ = sojourns(lengths, 2 * 0.6, 2)
    assert mean == pytest.approx(1 / (1 - 0.6**2), rel=0.06)


def fleet_of(cores, **replicas):
    stations = {name: Station(rate=1, full=1, rows=1, replicas=count) for name, count in replicas.items()}
    return {"stations": stations, "host": Host(cores=cores)}


def cycles(count, rounds, **seconds):
    """Problems that go from station to station."""
    rng, found = random.Random(3), []
    for number in range(count):
        times = [(name, -mean * math.log(1 - rng.random())) for _ in range(rounds) for name, mean in seconds.items()]
        phases = [Phase(name, (Ask(0, (time,)),)) for name, time in times]
        found.append(Script(f"{number}".encode(), (-1,), (0,), phases))
    return found


@pytest.mark.parametrize("crowding", [0.0, 0.25])
def test_a_full_host_does_what_its_processors_can(crowding):
    """The utilisation law: four programs that are always busy, on two processors."""
    setting, work = fleet_of(2, policy=2, verifier=1, driver=1), cycles(400, 5, driver=1.0, policy=2.0, verifier=1.0)
    setting["host"] = Host(cores=2, crowding=crowding)
    outcome = Fleet(**setting).run(work, concurrency=40)
    needs = demands(work)
    most = sharing.limit(setting["stations"], needs, {}, setting["host"])
    assert min(most, key=most.get) == "host"
    assert most["host"] == pytest.approx(
        2 / (1 + crowding) / sum(demand.waves * demand.longest for demand in needs.values())
    )
    assert outcome.rate == pytest.approx(most["host"], rel=0.03)
    assert outcome.busy("host") == pytest.approx(1.0, abs=0.02)
    assert sharing.throughputs(setting["stations"], needs, 40, {}, host=setting["host"])[-1] == pytest.approx(
        most["host"], rel=0.03
    )
    assert sharing.bound(setting["stations"], needs, 40, {}, setting["host"]) == most["host"]


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("concurrency", [1, 2, 4, 12])
def test_formulas_for_a_host_are_near_the_simulation(cores, concurrency):
    setting, work = (
        fleet_of(cores, policy=1, verifier=1, driver=1),
        cycles(300, 5, driver=0.5, policy=2.0, verifier=1.5),
    )
    outcome = Fleet(**setting).run(work, concurrency=concurrency)
    rates = sharing.throughputs(setting["stations"], demands(work), concurrency, {}, host=setting["host"])
    assert model.wall(rates, len(work)) == pytest.approx(outcome.wall, rel=0.06)


def test_a_formula_without_sharing_would_not_be():
    setting, work = fleet_of(1, policy=1, verifier=1, driver=1), cycles(300, 5, driver=0.5, policy=2.0, verifier=1.5)
    outcome = Fleet(**setting).run(work, concurrency=12)
    alone = model.throughputs(setting["stations"], demands(work), 12, {})
    assert model.wall(alone, len(work)) < 0.6 * outcome.wall


def test_a_host_with_a_processor_for_each_program_changes_nothing():
    setting, work = fleet_of(4, policy=2, verifier=1, driver=1), cycles(100, 3, driver=0.5, policy=2.0, verifier=1.5)
    alone = Fleet(stations=setting["stations"]).run(work, concurrency=8)
    assert Fleet(**setting).run(work, concurrency=8).ends == pytest.approx(alone.ends)
    rates = [
        sharing.throughputs(setting["stations"], demands(work), 8, {}, host=host) for host in (setting["host"], None)
    ]
    assert rates[0][-1] == pytest.approx(rates[1][-1])


def test_problems_that_come_at_random_to_a_host():
    setting = fleet_of(2, policy=2, verifier=1, driver=1)
    work = cycles(3000, 1, driver=0.3, policy=1.0, verifier=0.5)
    rng = random.Random(9)
    arrivals = list(itertools.accumulate(rng.expovariate(0.75) for _ in work))
    outcome = Fleet(**setting).run(work, arrivals=arrivals)
    found = sharing.opened(setting["stations"], demands(work), 0.75, {}, setting["host"])
    assert found.seconds == pytest.approx(statistics.fmean(outcome.seconds[300:]), rel=0.12)
    assert found.stations["host"].utilisation == pytest.approx(outcome.busy("host"), rel=0.06)


def test_draws_share_steps_and_processors():
    """A policy whose steps cost as much for many rows as for one, and a driver: alone each does what it can."""
    work = graded(Work(steps=4, requests=2, draws=3, passes=0).scripts(60, 0), {"driver": 0.2})
    stations = {"policy": Station(rate=50, full=400, rows=64, prefill=2000, replicas=1), "driver": ONE}
    slow = Fleet(stations=stations, host=Host(cores=1)).run(work, concurrency=6)
    busy = sum(pool.tally.busy for pool in slow.pools.values())
    assert busy == pytest.approx(slow.wall, rel=0.02), "one processor, always at work"
    assert sum(pool.tally.drawn for pool in slow.pools.values()) == pytest.approx(
        sum(sum(ask.lengths) for script in work for phase in script.phases for ask in phase.asks)
    )
    free = Fleet(stations=stations, host=Host(cores=2)).run(work, concurrency=6)
    assert free.wall < 0.9 * slow.wall
    rates = sharing.throughputs(stations, demands(work), 6, {}, host=Host(cores=1))
    assert model.wall(rates, len(work)) == pytest.approx(slow.wall, rel=0.15)


def test_replicas_are_dealt_out_to_machines():
    work = [job(float(i + 1)) for i in range(4)]
    stations = {"policy": Station(rate=1, full=1, rows=1, replicas=4)}
    one, two = (Fleet(stations=stations, host=Host(cores=1, replicas=n), routing="least").run(work) for n in (1, 2))
    assert one.wall == pytest.approx(10)
    assert max(two.wall, 10 - two.wall) == pytest.approx(two.wall) and two.wall in (6.0, 7.0, pytest.approx(6.0))
    assert two.busy("host") == pytest.approx(10 / (2 * two.wall))


def test_a_lost_replica_leaves_its_processor_to_the_others():
    stations = {"policy": Station(rate=1, full=1, rows=1, replicas=2)}
    fleet = Fleet(stations=stations, host=Host(cores=1), faults={"policy": Faults(between=7.0, start=1e9)})
    outcome = fleet.run([job(float(i % 3 + 1)) for i in range(6)], seed=1)
    shared = outcome.hosts[0]
    assert shared.used <= outcome.wall + 1e-9
    assert outcome.busy("host") <= 1


WRONG = [("cores", {"cores": 0}), ("replicas", {"cores": 2, "replicas": 0}), ("price", {"cores": 1, "price": -1})]


@pytest.mark.parametrize(("field", "values"), WRONG)
def test_wrong_hosts_are_refused(field, values):
    with pytest.raises(ConfigError) as refused:
        Host(**values)
    assert refused.value.field == field and str(values[field]) in str(refused.value)
