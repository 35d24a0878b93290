"""Formulas: how busy each station is, how long a problem takes, how many are solved per hour.

A replica is a station whose speed depends on how many waves of requests it has (`Demand.seconds`): draws share it
(processor sharing), and each further row makes a step only a little longer. Problems walk from station to station, one
wave after the other. Such a network has a product form (Baskett, Chandy, Muntz and Palacios 1975), so that each replica
can be looked at by itself; with processor sharing it knows of the lengths of draws their mean alone.

- Problems that come at random, `rate` per second: each replica is a birth-death chain (Kleinrock 1975, section 3.2),
  waves come at rate `a` and end at rate 1/seconds(n) with n there. Its mean number over `a` is the time of a wave
  (Little's law), and the mass above the rows is the share that waits, Erlang's C where a row's speed is its own. Where
  nothing is drawn, as in a verifier, requests take turns: the formula of Pollaczek and Khinchine.
- A fixed number in work: the convolution algorithm (Buzen 1973) gives the throughput X(n) with n problems in work; N
  problems take (N - C) / X(C), and then 1/X(C) + ... + 1/X(1) for the last C to leave.

Stations whose replicas share the processors of a host: `experiments.plan.sharing`, on top of these.

Left out: that draws of one wave end one by one (its rows are taken as evenly spread over its time), that all requests
of a problem prefer one replica, what spills over, losses of replicas. The simulation has all of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.plan.demand import Demand
from experiments.plan.station import Station

Hits = Mapping[str, float]  # by station, share of prompt tokens found in a cache
Array = np.ndarray[Any, np.dtype[np.float64]]
MOST = 10_000  # waves at a replica that are looked at
TINY = 1e-12
WAY = "on the way"  # stands for a station at which nobody waits for another


@dataclass(frozen=True)
class Busy:
    """A replica under load.

    Attributes:
        utilisation: what comes, over what it can do with all rows at work; at 1 it cannot keep up.
        present: waves there, on average.
        seconds: of a wave, from its coming to its end.
        waiting: share of waves that find no room, and wait before their draws begin.
        busy: share of the time in which there is anything to do.
    """

    utilisation: float
    present: float
    seconds: float
    waiting: float
    busy: float = math.nan


def loaded(station: Station, demand: Demand, rate: float, hits: float | None = None) -> Busy:
    """A replica to which waves come at `rate` per second."""
    full = math.ceil(min(demand.room(station), MOST))
    utilisation = rate * demand.seconds(station, MOST, hits)
    if utilisation >= 1:
        return Busy(utilisation, math.inf, math.inf, 1.0, 1.0)
    if not demand.tokens:
        own = demand.seconds(station, 1, hits)
        seconds = own * (1 + utilisation * (1 + demand.variation) / (2 * (1 - utilisation)))
        return Busy(utilisation, rate * seconds, seconds, utilisation, utilisation)
    # masses of 0, 1, 2 ... waves, up to where the speed no longer changes; beyond that a geometric tail
    masses, n = [1.0], 0
    while n < full and (n < 2 or masses[-1] > TINY * max(masses)):
        n += 1
        masses.append(masses[-1] * rate * demand.seconds(station, n, hits))
    ratio = utilisation if n >= full else 0.0
    tail = masses[-1] * ratio / (1 - ratio)
    above = masses[-1] * (n * ratio / (1 - ratio) + ratio / (1 - ratio) ** 2)
    total = sum(masses) + tail
    present = (sum(i * mass for i, mass in enumerate(masses)) + above) / total
    waiting = (masses[-1] + tail) / total if n >= full else 0.0
    seconds = present / rate if rate else demand.seconds(station, 1, hits)
    return Busy(utilisation, present, seconds, waiting, 1 - 1 / total)


@dataclass(frozen=True)
class Expected:
    """What the formulas expect of a fleet.

    Attributes:
        rate: problems per second.
        seconds: of a problem, the mean.
        stations: a replica of each.
    """

    rate: float
    seconds: float
    stations: Mapping[str, Busy]

    @property
    def binding(self) -> str:
        """The station that is busiest."""
        return max(self.stations, key=lambda name: self.stations[name].utilisation)


def opened(stations: Mapping[str, Station], needs: Mapping[str, Demand], rate: float, hits: Hits) -> Expected:
    """`rate` problems per second come at random; every station has its number of replicas."""
    found, seconds = {}, on_the_way(stations, needs)
    for name, demand in needs.items():
        station = stations[name]
        found[name] = loaded(station, demand, rate * demand.waves / (station.replicas or 1), hits.get(name))
        seconds += demand.waves * found[name].seconds
    return Expected(rate, seconds, found)


def throughputs(
    stations: Mapping[str, Station],
    needs: Mapping[str, Demand],
    most: int,
    hits: Hits,
    *,
    even: bool = False,
) -> list[float]:
    """Problems per second with 1, 2 ... `most` problems in work.

    Args:
        even: the replicas of a station share what is there evenly, as if it could move between them; else each gets
            what chance gives it. What a pool does, which spills over from a busy replica, is in between.
    """
    whole = _all(functions(stations, needs, most, hits, even).values(), most)
    return [math.exp(whole[n - 1] - whole[n]) for n in range(1, most + 1)]


def on_the_way(stations: Mapping[str, Station], needs: Mapping[str, Demand]) -> float:
    """Seconds of a problem in which its requests are on the way to replicas and back."""
    return sum(demand.waves * stations[name].way for name, demand in needs.items())


def functions(
    stations: Mapping[str, Station], needs: Mapping[str, Demand], most: int, hits: Hits, even: bool
) -> dict[str, tuple[Array, int]]:
    """By station that takes time: logarithms of the factor of 0 .. `most` problems at it, and how many such it is."""
    found = {}
    for name, demand in needs.items():
        station, replicas = stations[name], stations[name].replicas or 1
        counts = np.arange(1, most + 1)
        each = np.maximum(counts / replicas, 1) if even else counts
        times = np.array([demand.waves * demand.seconds(station, float(n), hits.get(name)) for n in each])
        times = times / (np.minimum(counts, replicas) if even else replicas)
        if times.all():
            found[name] = np.concatenate([np.zeros(1), np.cumsum(np.log(times))]), 1 if even else replicas
    if way := on_the_way(stations, needs):
        found[WAY] = np.concatenate([np.zeros(1), np.cumsum(np.log(way / np.arange(1, most + 1)))]), 1
    return found


def _all(each: Iterable[tuple[Array, int]], most: int) -> Array:
    """The convolution of all, each so many times."""
    found = np.full(most + 1, -np.inf)
    found[0] = 0.0
    for one, left in each:
        while left:  # by squaring
            if left % 2:
                found = _convolved(found, one)
            left //= 2
            one = _convolved(one, one) if left else one
    return found


def _convolved(a: Array, b: Array) -> Array:
    """The convolution of two sequences given by their logarithms, as long as they are."""
    sums = np.empty_like(a)
    for n in range(len(a)):
        terms = a[: n + 1] + b[n::-1]
        top = terms.max()
        sums[n] = top if np.isneginf(top) else top + np.log(np.exp(terms - top).sum())
    return sums


def wall(rates: Sequence[float], problems: int) -> float:
    """Seconds until `problems` are solved, as many of them in work as there are `throughputs` (while there are)."""
    most = min(problems, len(rates))
    return (problems - most) / rates[most - 1] + sum(1 / rate for rate in rates[:most])


def bound(stations: Mapping[str, Station], needs: Mapping[str, Demand], concurrency: int, hits: Hits) -> float:
    """Problems per second that `concurrency` in work cannot exceed: asymptotic bounds (Denning and Buzen 1978)."""
    alone = sum(demand.waves * demand.seconds(stations[name], 1, hits.get(name)) for name, demand in needs.items())
    alone += on_the_way(stations, needs)
    return min(concurrency / alone, *limit(stations, needs, hits).values())


def limit(stations: Mapping[str, Station], needs: Mapping[str, Demand], hits: Hits) -> dict[str, float]:
    """Problems per second that each station can do at most."""
    found = {}
    for name, demand in needs.items():
        least = demand.waves * demand.seconds(stations[name], MOST, hits.get(name))
        found[name] = (stations[name].replicas or 1) / least if least else math.inf
    return found
