"""The plan: replicas counted by the formulas, then held against a simulation of the pool."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.plan import model
from experiments.plan.demand import Demand
from experiments.plan.settings import Question
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet, Outcome
from search.errors import ConfigError

LEAST, MOST = 300, 3000  # problems simulated
WARM = 0.2  # share of them that is not measured: the pool is empty at first


@dataclass(frozen=True)
class Line:
    """One station of a plan.

    Attributes:
        load: share of what it can do, by the formulas.
        busy: share of the time in which it is at work, by the simulation; None without one.
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


def _fits(question: Question, name: str, demand: Demand, waves: float) -> bool:
    busy = model.loaded(question.stations[name], demand, waves, question.hits.get(name))
    return busy.utilisation <= question.utilisation + 1e-9 and (
        busy.waiting <= question.waiting or demand.room(question.stations[name]) <= 1
    )


def plan(question: Question) -> Plan:
    """Answers a question. Raises ConfigError where what is given cannot do it."""
    needs, hits = question.needs, question.hits
    counted = enough(question, needs)
    stations = question.fleet(counted)
    limits = model.limit(stations, needs, hits)
    binding = min(limits, key=lambda name: limits[name])
    busy: Mapping[str, model.Busy] = {}
    if question.rate is None:
        assert question.concurrency is not None
        concurrency = min(question.concurrency, question.problems or question.concurrency)
        rates = model.throughputs(stations, needs, concurrency, hits)
        rate, seconds = rates[-1], concurrency / rates[-1]
    else:
        rate = question.rate / 3600
        if rate >= limits[binding]:
            remedy = f"{counted[binding]} can do {3600 * limits[binding]:,.0f} problems per hour: give more, or null"
            raise ConfigError(f"{binding}.replicas", counted[binding], remedy)
        expected = model.opened(stations, needs, rate, hits)
        seconds, busy = expected.seconds, expected.stations
        concurrency = question.concurrency or max(math.ceil(rate * seconds), 1)
    walls = None
    if question.problems is not None:
        both = (model.throughputs(stations, needs, concurrency, hits, even=even) for even in (False, True))
        first, second = (model.wall(each, question.problems) for each in both)
        walls = (first, second, question.problems / model.bound(stations, needs, concurrency, hits))
    outcome = simulated(question, stations, rate, seconds, concurrency) if question.simulate else None
    lines = {
        name: Line(
            counted[name],
            rate / limits[name],
            outcome[0].busy(name) if outcome else None,
            busy[name].waiting if name in busy else None,
            3600 * limits[name],
            counted[name] * stations[name].price,
        )
        for name in needs
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
    question: Question, stations: Mapping[str, Any], rate: float, seconds: float, concurrency: int
) -> tuple[Outcome, dict[str, float]]:
    """The same in the simulation: problems at random, or `concurrency` in work at all times."""
    rng = random.Random(question.seed)
    opened = question.problems is None
    count = question.problems or min(max(LEAST, math.ceil(10 * rate * seconds)), MOST)
    chosen = [rng.choice(question.scripts) for _ in range(count)]
    scripts = [replace(script, key=f"{number}".encode()) for number, script in enumerate(chosen)]
    faults = Faults(keeps=_keeps(question))
    fleet = Fleet(stations=stations, faults={"policy": faults})
    if opened:
        time, arrivals = 0.0, []
        for _ in scripts:
            time += rng.expovariate(rate)
            arrivals.append(time)
        outcome = fleet.run(scripts, arrivals=arrivals, seed=question.seed)
    else:
        outcome = fleet.run(scripts, concurrency=concurrency, seed=question.seed)
    steady = outcome.seconds[int(WARM * count) :] if opened else outcome.seconds
    ends = outcome.ends
    known = {
        "problems": float(count),
        "rate": 3600 * count / (ends[-1] if ends else math.nan),
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
