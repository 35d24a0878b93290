"""The plan: replicas counted by the formulas, then held against a simulation of the pool."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.plan import model, sharing
from experiments.plan.demand import Demand
from experiments.plan.host import Host
from experiments.plan.settings import Question
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet, Outcome
from experiments.plan.station import Station
from search.errors import ConfigError

LEAST, MOST = 300, 3000  # problems simulated
TRIES = 10_000  # replicas or machines added before the plan says that it cannot be done
FULL = 0.98  # of a host's processors: more programs on it do not help
WARM = 0.2  # share of them that is not measured: the pool is empty at first


@dataclass(frozen=True)
class Line:
    """One station of a plan, or its machines (`host`).

    Attributes:
        load: share of what it can do, by the formulas.
        busy: share of the time in which it is at work, by the simulation, and of a processor where it shares them;
            None without a simulation.
        waiting: share of what comes that waits before it begins, by the formulas: for a policy, until it has rows; None
            where a number of problems is in work.
        most: problems per hour that it could do.
        price: of all replicas, per hour.
    """

    replicas: int
    load: float
    busy: float | None
    waiting: float | None
    most: float
    price: float


@dataclass(frozen=True)
class Plan:
    """What is needed, and what to expect of it.

    Attributes:
        binding: the station that would be full first.
        rate: problems per hour, as wanted, or as expected of a number of problems in work.
        seconds: of a problem, the mean, by the formulas.
        concurrency: problems in work at once: as given, or the mean by Little's law.
        wall: seconds for `problems`, by the formulas: replicas get what chance gives them, they share evenly, and the
            least it can be; None where none were asked for.
        simulated: problems per hour, mean, p50 and p99 seconds, wall and cache hits, by the simulation.
    """

    stations: Mapping[str, Line]
    binding: str
    rate: float
    seconds: float
    concurrency: float
    per_hour: float
    per_thousand: float
    wall: tuple[float, float, float] | None
    simulated: Mapping[str, float] | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def enough(question: Question, needs: Mapping[str, Demand]) -> dict[str, int]:
    """Replicas of each station by the formulas: the least that keep to `utilisation` and to `waiting`."""
    found = {}
    for name, demand in needs.items():
        station = question.stations[name]
        if station.replicas is not None:
            found[name] = station.replicas
            continue
        if question.rate is None:
            raise ConfigError(f"{name}.replicas", None, "give their number, or problems_per_hour to have them counted")
        waves = question.rate / 3600 * demand.waves
        full = waves * demand.seconds(station, model.MOST, question.hits.get(name))
        count = max(math.ceil(full / question.utilisation - 1e-9), 1)
        # verifiers take turns, so that a busy one makes wait however it is counted: utilisation alone limits them
        while demand.tokens and not _fits(question, name, demand, waves / count):
            count += 1
        found[name] = count
    return found


def machines(question: Question, needs: Mapping[str, Demand], counted: dict[str, int]) -> Host | None:
    """The host with the number of machines that keep to `utilisation`.

    Programs that share processors are slower than alone: of those whose number is not given there are so many (in
    `counted`, mutates) that they keep to it all the same.
    """
    if (given := question.host) is None:
        return None
    host = given
    spent = (question.rate or 0.0) / 3600 * sharing.processor(question.fleet(counted), needs, question.hits, host)
    host = replace(host, replicas=host.replicas or max(math.ceil(spent / host.cores / question.utilisation - 1e-9), 1))
    if question.rate is None:
        return host
    for _ in range(TRIES):
        loads = sharing.opened(question.fleet(counted), needs, question.rate / 3600, question.hits, host).stations
        over = {name for name, load in loads.items() if load.utilisation > question.utilisation + 1e-9}
        short = [name for name in over & {*host.stations} if question.stations[name].replicas is None]
        if "host" in over and given.replicas is None:
            host = replace(host, replicas=(host.replicas or 1) + 1)
        elif not short or ("host" in over and loads["host"].utilisation > FULL):
            break
        else:
            counted.update({name: counted[name] + 1 for name in short})
    return host


def _fits(question: Question, name: str, demand: Demand, waves: float) -> bool:
    busy = model.loaded(question.stations[name], demand, waves, question.hits.get(name))
    return busy.utilisation <= question.utilisation + 1e-9 and (
        busy.waiting <= question.waiting or demand.room(question.stations[name]) <= 1
    )


def plan(question: Question) -> Plan:
    """Answers a question. Raises ConfigError where what is given cannot do it."""
    needs, hits = question.needs, question.hits
    counted = enough(question, needs)
    host = machines(question, needs, counted)
    stations = question.fleet(counted)
    limits = sharing.limit(stations, needs, hits, host)
    binding = min(limits, key=lambda name: limits[name])
    prices = {name: stations[name].price for name in needs}
    if host is not None:
        counted["host"], prices["host"] = host.replicas or 1, host.price
    busy: Mapping[str, model.Busy] = {}
    if question.rate is None:
        assert question.concurrency is not None
        concurrency = min(question.concurrency, question.problems or question.concurrency)
        rates = sharing.throughputs(stations, needs, concurrency, hits, host=host)
        rate, seconds = rates[-1], concurrency / rates[-1]
    else:
        rate = question.rate / 3600
        if rate >= limits[binding]:
            remedy = f"{counted[binding]} can do {3600 * limits[binding]:,.0f} problems per hour: give more, or null"
            raise ConfigError(f"{binding}.replicas", counted[binding], remedy)
        expected = sharing.opened(stations, needs, rate, hits, host)
        seconds, busy = expected.seconds, expected.stations
        if busy[full := expected.binding].utilisation >= 1 or math.isinf(seconds):
            at = "host" if host is not None and host.replicas else full
            remedy = "programs that share its processors are too slow for so many problems per hour: give more, or null"
            raise ConfigError(f"{at}.replicas", counted[at], remedy)
        concurrency = question.concurrency or max(math.ceil(rate * seconds), 1)
    walls = None
    if question.problems is not None:
        both = (sharing.throughputs(stations, needs, concurrency, hits, even=even, host=host) for even in (False, True))
        first, second = (model.wall(each, question.problems) for each in both)
        walls = (first, second, question.problems / sharing.bound(stations, needs, concurrency, hits, host))
    outcome = simulated(question, stations, host, rate, seconds, concurrency) if question.simulate else None
    lines = {
        name: Line(
            counted[name],
            rate / limit,
            outcome[0].busy(name) if outcome else None,
            busy[name].waiting if name in busy else None,
            3600 * limit,
            counted[name] * prices[name],
        )
        for name, limit in limits.items()
    }
    price = sum(line.price for line in lines.values())
    return Plan(
        lines,
        binding,
        3600 * rate,
        seconds,
        concurrency if question.rate is None else rate * seconds,
        price,
        1000 * price / (3600 * rate),
        walls,
        outcome[1] if outcome else None,
        tuple(question.notes),
    )


def simulated(
    question: Question,
    stations: Mapping[str, Station],
    host: Host | None,
    rate: float,
    seconds: float,
    concurrency: int,
) -> tuple[Outcome, dict[str, float]]:
    """The same in the simulation: problems at random, or `concurrency` in work at all times."""
    rng = random.Random(question.seed)
    opened = question.problems is None
    count = question.problems or min(max(LEAST, math.ceil(10 * rate * seconds)), MOST)
    chosen = [rng.choice(question.scripts) for _ in range(count)]
    scripts = [replace(script, key=f"{number}".encode()) for number, script in enumerate(chosen)]
    faults = Faults(keeps=_keeps(question))
    fleet = Fleet(stations=stations, faults={"policy": faults}, host=host)
    if opened:
        time, arrivals = 0.0, []
        for _ in scripts:
            time += rng.expovariate(rate)
            arrivals.append(time)
        outcome = fleet.run(scripts, arrivals=arrivals, seed=question.seed)
    else:
        outcome = fleet.run(scripts, concurrency=concurrency, seed=question.seed)
    steady = outcome.seconds[int(WARM * count) :] if opened else outcome.seconds
    known = {
        "problems": float(count),
        "rate": 3600 * (outcome.rate if opened else count / outcome.wall),
        "seconds": statistics.fmean(steady),
        "p50": float(statistics.median(steady)),
        "p99": outcome.quantile(0.99),
        "wall": outcome.wall,
        "hits": outcome.hits(),
    }
    return outcome, known


def _keeps(question: Question) -> float:
    """Share of what a cache without limit would find that is found, so that its hits are those given."""
    ideal = question.needs["policy"].hits
    return min(question.hits.get("policy", ideal) / ideal, 1.0) if ideal else 1.0
