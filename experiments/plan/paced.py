"""The stations of a finished run, from what its processes told of themselves (`experiments.pace`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.build import make
from experiments.plan.fit import Fit, fitted
from experiments.plan.host import Host
from experiments.plan.station import Station
from search.errors import ConfigError

ROWS = 256  # draws at once at most where a policy does not say (conf/policy)


@dataclass(frozen=True)
class Paced:
    """What `pace` of a run's run.json says.

    Attributes:
        cores: processors of the machine.
        wall: seconds from the first item's beginning to the last one's end.
        processor: seconds of the driver's.
        requests: of policies and verifiers.
        models: what each replica told, by station; those that do not tell are not there.
        away: seconds that requests were with replicas and on the way, added up, and how many; of pools.
    """

    cores: int
    wall: float
    processor: float
    requests: int
    process: int
    models: Mapping[str, Sequence[Mapping[str, Any]]]
    away: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Paced | None:
        """None where the run asked nothing."""
        driver = told["driver"]
        if not driver["requests"]:
            return None
        models = {name: told[name] for name in ("policy", "verifier") if told.get(name)}
        return cls(
            told["cores"],
            driver["wall"],
            driver["processor"],
            driver["requests"],
            driver["process"],
            models,
            told.get("away", {}),
        )

    @classmethod
    def merged(cls, several: Sequence[Paced]) -> Paced:
        """Of several runs in one process, as if they were one."""
        first, models = several[0], dict[str, list[Mapping[str, Any]]]()
        for each in several:
            for name, told in each.models.items():
                models.setdefault(name, []).extend(told)
        wall, processor = sum(each.wall for each in several), sum(each.processor for each in several)
        requests = sum(each.requests for each in several)
        away: dict[str, dict[str, float]] = {}
        for each in several:
            for name, seconds in each.away.items():
                known = away.setdefault(name, dict.fromkeys(seconds, 0.0))
                away[name] = {what: known[what] + value for what, value in seconds.items()}
        return cls(first.cores, wall, processor, requests, first.process, models, away)

    def driver(self, host: Host | None = None) -> float:
        """Seconds of the driver per request; on a host, of a processor that computes alone."""
        return self.processor / self.requests / self.crowded("driver", host)

    def spent(self, name: str) -> float | None:
        """Seconds of processors that a station took; None where it is not told."""
        if name == "driver":
            return self.processor
        if name not in self.models or not self.shares(name):
            return None
        return sum(p["processor"] if p["process"] != self.process else p["sums"][-1][-1] for p in self.models[name])

    def shares(self, name: str) -> bool:
        """Whether the model's seconds are of a processor, which others may want too; else it has its own device."""
        return all(pace["alone"] for pace in self.models[name])

    def crowded(self, name: str, host: Host | None) -> float:
        """How many times as long as alone the run's processors took for a station, for what else they had to do."""
        if host is None or name not in host.stations:
            return 1.0
        spent = {other: self.spent(other) or 0.0 for other in ("driver", *self.models)}
        replicas = len(self.models.get(name, ())) or 1
        beside = sum(spent.values()) - spent[name] / replicas
        return host.slower(1 + beside / self.wall)

    def station(
        self, name: str, given: Mapping[str, Any], host: Host | None = None, new: float | None = None
    ) -> Station:
        """Of one replica; what is `given` is not read off the run. Raises ConfigError for what the run cannot tell.

        Args:
            host: on which its times are those of a processor that computes alone.
            new: prompt tokens of the run that no cache held, as the problems' trees tell. A verifier reads its own
                tokens, which may be others; its time is laid to those of the tree. None where they are the same.
        """
        fit = fitted(self.models[name])
        if not fit.totals["steps"]:
            raise ConfigError(f"{name}.rate", None, "the run asked it nothing: give its rates, or another run")
        values = {key: value for key, value in given.items() if value is not None}
        rows, slower = int(values.setdefault("rows", ROWS)), self.crowded(name, host)
        if "rate" not in values:
            step = self._tell(fit, name, "steps", "rate") / fit.drawn / slower
            row = self._tell(fit, name, "rows", "full") / fit.drawn / slower
            values["rate"] = 1 / (step + row)
            values["full"] = min(max(rows / (step + row * rows), values["rate"]), values["rate"] * rows)
        if "prefill" not in values:
            reading = self._tell(fit, name, "read", "prefill") / slower
            if not reading:
                raise ConfigError(f"{name}.prefill", None, "the run read no prompt: give prompt tokens per second")
            values["prefill"] = 1 / (reading if new is None else reading * fit.totals["read"] / new)
        if not values.get("call"):
            values["call"] = (self._tell(fit, name, "calls", "call") + self._beside(name, fit)) / slower
        values.setdefault("way", self._way(name, fit))
        station: Station = make(name, Station, {"stepwise": True, **values})
        return station

    def _tell(self, fit: Fit, name: str, cause: str, field: str) -> float:
        remedy = f"give {name}.{field}, or a run with more problems, of other kinds, or more of them in work"
        return fit.told(cause, f"{name}.{field}", remedy)

    def _way(self, name: str, fit: Fit) -> float:
        """Seconds of a request between pool and model, without those in which a process worked on it."""
        away = self.away.get(name, {"items": 0})
        if not away["items"]:
            return 0.0
        inside = sum(pace["inside"] for pace in self.models[name])
        return max((away["seconds"] - inside) / away["items"] - self._beside(name, fit), 0.0)

    def _beside(self, name: str, fit: Fit) -> float:
        """Seconds of a replica's process beside its model's steps, per call: to take it in and to answer it."""
        own = [pace for pace in self.models[name] if pace["process"] != self.process and pace["alone"]]
        beside = sum(pace["processor"] - pace["sums"][-1][-1] for pace in own)
        return max(beside, 0.0) / fit.totals["calls"] if fit.totals["calls"] else 0.0
