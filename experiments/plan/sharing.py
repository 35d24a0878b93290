"""Formulas for stations whose replicas share the processors of a host.

A program that works while k of its machine do, itself among them, has the speed `Host.speed`(k). What it gets
on average follows from how many work beside it, and that from how slow they all are; both are found by turns until
they agree, so that processors are never more than busy. Beyond that nothing is new: each station is slower by its
factor, and the formulas of `experiments.plan.model` tell how many are at work. That is what is not exact: a problem
that meets many programs at work is slower than this one, which meets as many as on average.

What a host can do at most needs no such argument: processor seconds of a problem over processors (utilisation law).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from experiments.plan import model
from experiments.plan.demand import Demand
from experiments.plan.host import Host
from experiments.plan.model import Array, Busy, Expected, Hits
from experiments.plan.station import Station

TURNS, NEAR = 200, 1e-4  # tries until factors agree; relative difference at which they do

Stations = Mapping[str, Station]
Needs = Mapping[str, Demand]


def slowed(stations: Stations, factors: Mapping[str, float]) -> dict[str, Station]:
    """Each station slower by its factor."""
    return {name: station.slowed(factors.get(name, 1.0)) for name, station in stations.items()}


def programs(host: Host, stations: Stations) -> dict[str, int]:
    """Of each station, on the fullest machine."""
    machines = host.replicas or 1
    return {name: math.ceil((s.replicas or 1) / machines) for name, s in stations.items() if name in host.stations}


def agreed(stations: Stations, factors: Callable[[Stations], Mapping[str, float]]) -> dict[str, float]:
    """The factors at which stations that are slower by them have just these."""
    now = dict.fromkeys(stations, 1.0)
    for _ in range(TURNS):
        new = factors(slowed(stations, now))
        if all(abs(new[name] / now[name] - 1) < NEAR for name in new):
            break
        now.update({name: math.sqrt(now[name] * new[name]) for name in new})  # half way: it must not swing
    return now


def throughputs(
    stations: Stations, needs: Needs, most: int, hits: Hits, *, even: bool = False, host: Host | None = None
) -> list[float]:
    """As `model.throughputs`; where there is a host, at 1, 2, 4 ... `most` problems, and on lines in between."""
    if host is None:
        return model.throughputs(stations, needs, most, hits, even=even)
    counts = sorted({most, *(2**i for i in range(most.bit_length()))})
    asked, known = {name: stations[name] for name in needs}, []
    for count in counts:
        found = agreed(asked, partial(_in_work, host=host, needs=needs, count=count, hits=hits, even=even))
        known.append(model.throughputs(slowed(stations, found), needs, count, hits, even=even)[-1])
    return [float(rate) for rate in np.interp(range(1, most + 1), counts, known)]


def _in_work(stations: Stations, host: Host, needs: Needs, count: int, hits: Hits, even: bool) -> dict[str, float]:
    """Factors where `count` problems are in work, by the joint distribution of programs at work.

    The factor of n problems at a station goes to the power of a mark that tells how many of its programs work then;
    the coefficients of the product of all, for `count` problems, are the chances of so many marks.
    """
    rate = model.throughputs(stations, needs, count, hits, even=even)[-1]  # times it all factors are about 1
    scale, machines = rate ** np.arange(count + 1), host.replicas or 1
    marked: dict[str, list[Array]] = {}
    for name, (logarithms, many) in model.functions(stations, needs, count, hits, even).items():
        one, here = np.exp(logarithms) * scale, programs(host, stations).get(name, 0)
        most = (stations[name].replicas or 1) if even and here else 1
        shared = _marks(one, [math.ceil(min(n, most) / machines) if here else 0 for n in range(count + 1)])
        marked[name] = [shared] if even else [shared] * here + [_marks(one, [0] * (count + 1))] * (many - here)
    found = {}
    for name in marked.keys() & programs(host, stations).keys():
        first, *rest = marked[name]
        weighted = first * np.arange(len(first))[:, None]  # as many states of it as programs of this station in them
        product = weighted
        for part in [*rest, *(part for key, parts in marked.items() if key != name for part in parts)]:
            product = _product(product, part)
        chances = product[:, count]
        found[name] = float(chances.sum() / (chances * _speeds(len(chances), host)).sum())
    return found


def _marks(one: Array, marks: Sequence[int]) -> Array:
    """[marks, problems]: each factor in the row of its mark."""
    found = np.zeros((max(marks) + 1, len(one)))
    found[marks, range(len(one))] = one
    return found


def _product(a: Array, b: Array) -> Array:
    """Of two polynomials in marks and problems, up to as many problems."""
    found = np.zeros((len(a) + len(b) - 1, a.shape[1]))
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            found[i + j] += np.convolve(left, right)[: a.shape[1]]
    return found


def _at_random(stations: Stations, host: Host, needs: Needs, rate: float, hits: Hits) -> dict[str, float]:
    """Factors where `rate` problems per second come: programs are at work independently of each other."""
    busy = {name: each.busy for name, each in model.opened(stations, needs, rate, hits).stations.items()}
    found, there = {}, {name: count for name, count in programs(host, stations).items() if name in busy}
    for name in there:
        others = np.ones(1)  # the chance of 0, 1 ... others at work
        for other, count in there.items():
            for _ in range(count - (other == name)):
                others = np.convolve(others, (1 - busy[other], busy[other]))
        found[name] = 1 / float((others * _speeds(len(others) + 1, host)[1:]).sum())
    return found


def _speeds(most: int, host: Host) -> Array:
    """Of a program where 0, 1 ... of its machine work."""
    return np.array([host.speed(working) for working in range(most)])


def opened(stations: Stations, needs: Needs, rate: float, hits: Hits, host: Host | None = None) -> Expected:
    """As `model.opened`, with the fullest machine of the host: `present` are the programs at work there."""
    if host is None:
        return model.opened(stations, needs, rate, hits)

    asked = {name: stations[name] for name in needs}
    found = agreed(asked, partial(_at_random, host=host, needs=needs, rate=rate, hits=hits))
    expected = model.opened(slowed(stations, found), needs, rate, hits)
    there = programs(host, asked)
    got = sum(count * expected.stations[name].busy / found[name] for name, count in there.items())
    used = got * host.slower(got) / host.cores
    whole = Busy(used, got, math.nan, math.nan, used)
    return replace(expected, stations={**expected.stations, "host": whole})


def limit(stations: Stations, needs: Needs, hits: Hits, host: Host | None = None) -> dict[str, float]:
    """As `model.limit`, with the host."""
    found = model.limit(stations, needs, hits)
    if host is not None and (spent := processor(stations, needs, hits, host)):
        found["host"] = (host.replicas or 1) * host.cores / (spent * host.slower(host.cores))
    return found


def bound(stations: Stations, needs: Needs, concurrency: int, hits: Hits, host: Host | None = None) -> float:
    """As `model.bound`, with the host."""
    return min(
        model.bound(stations, needs, concurrency, hits), limit(stations, needs, hits, host).get("host", math.inf)
    )


def processor(stations: Stations, needs: Needs, hits: Hits, host: Host) -> float:
    """Seconds of a processor that a problem takes at least: alone on it, with all rows of the replicas at work."""
    shared = [(stations[name], demand, hits.get(name)) for name, demand in needs.items() if name in host.stations]
    return sum(demand.waves * demand.seconds(station, model.MOST, found) for station, demand, found in shared)
