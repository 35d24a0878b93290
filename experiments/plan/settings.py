"""From plain settings to what is asked: the work, the stations, and what is wanted of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.build import make, under
from experiments.plan.demand import Demand, demands
from experiments.plan.host import Host
from experiments.plan.recorded import Recorded, recorded
from experiments.plan.script import Script, Work, graded, stepped
from experiments.plan.station import INFINITE, Station
from search.errors import ConfigError

FIELDS = ("run", "work", "problems_per_hour", "problems", "concurrency", "utilisation", "waiting", "hits", "simulate")
STATIONS = ("policy", "verifier", "grader", "driver")
SAMPLE = 300  # problems made where no run is given
DRIVER = 0.001  # seconds of Python per request, where neither a run nor a setting tells


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be planned.

    Attributes:
        rate: problems per hour; None where a number of problems is to be solved.
        problems: number of them, or None.
        hits: by station, share of prompt tokens found in a cache, where it is given.
        host: machines whose processors replicas share; None for devices of their own.
        notes: what was assumed, for people.
    """

    scripts: Sequence[Script]
    stations: Mapping[str, Station]
    rate: float | None
    problems: int | None
    concurrency: int | None
    utilisation: float
    waiting: float
    hits: Mapping[str, float] = field(default_factory=dict)
    host: Host | None = None
    simulate: bool = True
    seed: int = 0
    notes: Sequence[str] = ()

    @property
    def needs(self) -> dict[str, Demand]:
        """By station; those that do nothing are left out."""
        return demands(self.scripts)

    def fleet(self, replicas: Mapping[str, int]) -> dict[str, Station]:
        """The stations with so many replicas."""
        return {name: replace(station, replicas=replicas[name]) for name, station in self.stations.items()}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Question:
        """From a whole configuration; raises ConfigError naming the setting that is wrong."""
        for name in settings.keys() - {*FIELDS, *STATIONS, "host", "seed"}:
            known = ", ".join((*FIELDS, *STATIONS, "host", "seed"))
            raise ConfigError(name, settings[name], f"there is no such option; choose from {known}")
        run = recorded(Path(str(settings["run"])).expanduser()) if settings["run"] else None
        seed = _positive(settings, "seed", int, least=0)
        scripts = run.scripts if run else make("work", Work, settings["work"]).scripts(SAMPLE, seed)
        notes = [f"work of {len(scripts)} problems of {settings['run']}"] if run else []
        host = _host(settings, run, notes)
        stations = _stations(settings, run, host, notes)
        seconds = _seconds(settings, run, host, notes)
        scripts = [_with(script, stations) for script in scripts]
        if "verifier" in stations and stations["verifier"].rate < INFINITE:
            scripts = stepped(scripts, "verifier")
        scripts = graded(scripts, seconds)
        asked = {phase.station for script in scripts for phase in script.phases}
        hits: float | None = settings["hits"] if run is None or settings["hits"] is not None else run.hits
        if hits is not None and not 0 <= hits < 1:
            raise ConfigError("hits", hits, "give a share of at least 0 and less than 1")
        question = cls(
            scripts=scripts,
            stations={name: station for name, station in stations.items() if name in asked},
            rate=_positive(settings, "problems_per_hour", float),
            problems=_positive(settings, "problems", int),
            concurrency=_positive(settings, "concurrency", int),
            utilisation=_share(settings, "utilisation"),
            waiting=_share(settings, "waiting"),
            hits={} if hits is None else {"policy": float(hits)},
            host=host,
            simulate=bool(settings["simulate"]),
            seed=seed,
            notes=notes,
        )
        if question.rate is None and question.problems is None:
            raise ConfigError("problems_per_hour", None, "give how many are to be solved per hour, or problems=N")
        if question.rate is None and question.concurrency is None:
            raise ConfigError("concurrency", None, "give how many problems are in work at once, or problems_per_hour")
        return question


def _stations(
    settings: Mapping[str, Any], run: Recorded | None, host: Host | None, notes: list[str]
) -> dict[str, Station]:
    found = {}
    if (policy := _paced("policy", settings, run, host, notes)) is None:
        given = _plain(settings["policy"])
        if "rate" not in given:
            if run is None or run.rate is None:
                remedy = "give tokens per second of one draw, or a run that tells its times"
                raise ConfigError("policy.rate", None, remedy)
            given = {**given, "rate": run.rate, "full": None, "prefill": given.get("prefill", run.rate)}
            notes.append(f"policy: {run.rate:,.0f} tokens/s together, of the run's own batches")
        if "prefill" not in given:
            given["prefill"] = 10 * (given.get("full") or given["rate"])
            notes.append(f"policy.prefill: {given['prefill']:,.0f} tokens/s, taken as ten times the drawing")
        policy = make("policy", Station, given)
    found["policy"] = policy
    if (verifier := _paced("verifier", settings, run, host, notes)) is not None:
        found["verifier"] = verifier
    else:
        given = _plain(settings["verifier"])
        if "prefill" not in given and run and run.reading:
            given["prefill"] = run.reading
            notes.append(f"verifier: {run.reading:,.0f} tokens/s, of the run's own batches")
        if "prefill" in given:
            found["verifier"] = make("verifier", Station, given)
        elif run is not None and any(phase.station == "verifier" for script in run.scripts for phase in script.phases):
            notes.append("verifier: left out, the run does not tell its times: give verifier.prefill=tokens per second")
    for name in ("grader", "driver"):
        fields = _plain(settings[name])
        fields.pop("seconds", None)
        rows = fields.pop("rows", 1)
        fields.update(rate=1, full=rows, rows=rows)  # lengths there are seconds, and each row has a processor
        try:
            found[name] = make(name, Station, fields)
        except ConfigError as error:
            raise under(name, error) from error
    return found


def _paced(
    name: str, settings: Mapping[str, Any], run: Recorded | None, host: Host | None, notes: list[str]
) -> Station | None:
    """A station whose pace the run tells; None where it does not, or all rates are given."""
    if run is None or run.paced is None or name not in run.paced.models or settings[name].get("rate") is not None:
        return None
    station = run.station(name, _plain(settings[name]), host)
    notes.append(f"{name}: {station.said}, of the run's steps")
    return station


def _seconds(
    settings: Mapping[str, Any], run: Recorded | None, host: Host | None, notes: list[str]
) -> dict[str, float]:
    """Of the driver per request, and of the grader per problem."""
    found = {name: settings[name]["seconds"] for name in ("grader", "driver")}
    if found["driver"] is None:
        found["driver"] = DRIVER
        if run and run.paced:
            found["driver"] = each = run.paced.driver(host)
            notes.append(f"driver: {1000 * each:.2f} ms per request, of the run")
    for name, value in found.items():
        if not isinstance(value, int | float) or not value >= 0:
            raise ConfigError(f"{name}.seconds", value, "give a number of at least 0")
    return {name: float(value) for name, value in found.items()}


def _host(settings: Mapping[str, Any], run: Recorded | None, notes: list[str]) -> Host | None:
    """Given by its processors, or that of a run whose models computed on them."""
    given, on = _plain(settings["host"]), list(STATIONS)
    if run is not None and run.paced is not None:
        models = [name for name in run.paced.models if run.paced.shares(name)]
        on = [*models, "grader", "driver"]
        if "cores" not in given and "policy" in on:
            given["cores"] = run.paced.cores
            notes.append(f"host: {run.paced.cores} processors, those of the run's machine; host.cores=N for others")
    if "cores" not in given:
        return None
    host = make("host", Host, {"replicas": None, **given})
    return replace(host, stations=tuple(on))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is null."""
    return {name: value for name, value in fields.items() if value is not None}


def _with(script: Script, stations: Mapping[str, Station]) -> Script:
    """Without the phases of stations there are not."""
    kept = [phase for phase in script.phases if phase.station in stations]
    return Script(script.key, script.parents, script.sizes, kept)


def _positive(settings: Mapping[str, Any], name: str, kind: type, least: int = 1) -> Any:
    value = settings[name]
    if value is None:
        return None
    good = type(value) is int or (kind is float and isinstance(value, float))
    if not good or value < (least if kind is int else 0) or value != value:
        wanted = f"a whole number of at least {least}" if kind is int else "a positive number"
        raise ConfigError(name, value, f"give {wanted}, or null")
    return value


def _share(settings: Mapping[str, Any], name: str) -> float:
    value = settings[name]
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(name, value, "give a share between 0 and 1")
    return float(value)
