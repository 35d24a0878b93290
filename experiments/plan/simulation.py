"""A run in simulated time: problems arrive or are taken up one after another, and ask pools until they are solved."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.plan.clock import Clock
from experiments.plan.host import Host, Shared
from experiments.plan.script import Script
from experiments.plan.simulated import Faults, Simulated
from experiments.plan.station import Station
from policies.pool.rules import Rules

TOGETHER = ("verifier",)  # stations that get what is asked at once in one call


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        wall: seconds from its beginning to its end.
        seconds: of each solved problem, from its arrival (where all are there, from its beginning) to its end, in the
            order in which they ended.
        ends: when.
        pools: by station.
        failed: problems with a request that nobody answered.
        hosts: machines that replicas shared, and the processors of each.
    """

    wall: float
    seconds: Sequence[float]
    ends: Sequence[float]
    pools: Mapping[str, Simulated] = field(repr=False)
    failed: int = 0
    hosts: Sequence[Shared] = ()
    cores: int = 0

    def quantile(self, share: float) -> float:
        """Seconds in which that share of the problems is solved."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("nan")

    @property
    def rate(self) -> float:
        """Problems per second, between the tenth and the last tenth: neither the beginning nor stragglers count."""
        low, high = len(self.ends) // 10, 9 * len(self.ends) // 10
        between = self.ends[high] - self.ends[low] if self.ends else 0.0
        return (high - low) / between if between else float("nan")

    def busy(self, station: str) -> float:
        """Share of its replicas' time in which they were at work; of a host, of its processors' time."""
        if station == "host":
            return sum(host.used for host in self.hosts) / (self.wall * self.cores * len(self.hosts))
        pool = self.pools[station]
        return pool.tally.busy / pool.seconds if pool.seconds else 0.0

    def hits(self, station: str = "policy") -> float:
        """Share of prompt tokens found in a prefix cache."""
        tally = self.pools[station].tally
        return tally.found / max(tally.found + tally.read, 1e-12)

    def lost(self) -> float:
        """Share of the tokens computed and drawn that were for nothing."""
        tallies = [pool.tally for pool in self.pools.values()]
        done = sum(tally.drawn + tally.read + tally.lost for tally in tallies)
        return sum(tally.lost for tally in tallies) / max(done, 1e-12)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """What a run has.

    Attributes:
        stations: by name; each has its number of replicas.
        rules: of their pools, where they differ from the stations' rows and replicas.
        faults: of their replicas.
        host: machines that some of them share; None for devices of their own.
    """

    stations: Mapping[str, Station]
    rules: Mapping[str, Rules] = field(default_factory=dict)
    faults: Mapping[str, Faults] = field(default_factory=dict)
    routing: str = "affine"
    host: Host | None = None

    def run(
        self,
        scripts: Sequence[Script],
        *,
        concurrency: int | None = None,
        arrivals: Sequence[float] | None = None,
        seed: int = 0,
    ) -> Outcome:
        """Runs `scripts`: at most `concurrency` at once, from the beginning or as they arrive (seconds)."""
        return _Run(self, scripts, concurrency or len(scripts), arrivals, seed).outcome()


class _Run:
    """One run at work."""

    def __init__(
        self, fleet: Fleet, scripts: Sequence[Script], concurrency: int, arrivals: Sequence[float] | None, seed: int
    ):
        self._clock, rng, host = Clock(), random.Random(seed), fleet.host
        self._cores = host.cores if host else 0
        self._hosts = [Shared(self._clock, host) for _ in range(host.replicas or 1)] if host else []
        self._pools = {
            name: Simulated(
                self._clock,
                station,
                fleet.rules.get(name) or rules(station),
                fleet.faults.get(name, Faults()),
                random.Random(rng.random()),
                fleet.routing,
                name in TOGETHER,
                self._hosts if host and name in host.stations else (),
            )
            for name, station in fleet.stations.items()
        }
        self._todo, self._room, self._total = list(reversed(scripts)), concurrency, len(scripts)
        self._arrived: list[float] | None = None if arrivals is None else []
        self._seconds: list[float] = []
        self._ends: list[float] = []
        for time in arrivals or ():
            self._clock.at(time, self._arrive)
        self._take()

    def outcome(self) -> Outcome:
        while len(self._ends) < self._total and self._clock.step():
            pass
        for pool in self._pools.values():
            pool.settle()
        for shared in self._hosts:
            shared.settle()
        failed = sum(pool.failed for pool in self._pools.values())
        return Outcome(self._clock.now, self._seconds, self._ends, self._pools, failed, self._hosts, self._cores)

    def _arrive(self) -> None:
        assert self._arrived is not None
        self._arrived.append(self._clock.now)
        self._take()

    def _take(self) -> None:
        """Problems that have arrived, or where all are there all the next ones, are taken up while there is room."""
        while self._room and self._todo:
            number = self._total - len(self._todo)
            if self._arrived is not None and number >= len(self._arrived):
                return
            self._room -= 1
            began = self._clock.now if self._arrived is None else self._arrived[number]
            self._next(self._todo.pop(), 0, began)

    def _next(self, script: Script, number: int, began: float) -> None:
        """The phase `number` of a problem."""
        if number == len(script.phases):
            self._seconds.append(self._clock.now - began)
            self._ends.append(self._clock.now)
            self._room += 1
            self._take()
            return
        station, asks = script.phases[number]
        left = len(asks)

        def answered() -> None:
            nonlocal left
            left -= 1
            if not left:
                # in an event of its own: replicas settle first what ended with it
                self._clock.at(self._clock.now, self._next, script, number + 1, began)

        self._pools[station](script, asks, answered)


def rules(station: Station) -> Rules:
    """Of a pool that holds just this station."""
    endless = 10**9
    return Rules(replicas=station.replicas or 1, rows=station.rows or endless, queue=endless)
