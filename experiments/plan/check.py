"""Real runs on this machine over pools of processes, against what formulas and simulation foretell.

One run of the fewest replicas, under another seed, tells what steps, requests and the driver take under load
(`experiments.plan.paced`); of models that do not tell, the rates of one replica are measured by themselves
(`experiments.plan.rates`). Of the runs that are foretold only the tree of every problem is known, which does not depend
on replicas. All is done in rounds, one run after the other, since machines that others use too are not always as fast.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from experiments.build import make
from experiments.commandline import CONF
from experiments.item import cut
from experiments.pace import cores
from experiments.parts import Parts
from experiments.plan import model, rates, sharing, shown
from experiments.plan.crowding import crowding
from experiments.plan.demand import demands
from experiments.plan.host import Host
from experiments.plan.paced import Paced
from experiments.plan.recorded import Recorded, merged, recorded
from experiments.plan.script import Script, graded, stepped
from experiments.plan.simulation import Fleet
from experiments.plan.station import INFINITE, Station
from experiments.progress import Progress
from experiments.runner import Runner
from experiments.store import opened
from search.errors import ConfigError

SEEDS = 3  # simulations of which the middle one is shown


@dataclass(frozen=True)
class Checked:
    """One run.

    Attributes:
        replicas: of the policy.
        measured: problems per hour, the median of all rounds.
        walls: seconds of each round.
        chance, even: by the formulas, replicas getting what chance gives them or sharing evenly.
        simulated: by the simulation.
        load: runnable programs on this machine when it began, beside processors (`os.getloadavg`).
        spent: seconds of processors by station, of the run next to the median and simulated; the wall times too.
    """

    replicas: int
    measured: float
    chance: float
    even: float
    simulated: float
    load: float
    walls: Sequence[float] = ()
    spent: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rates:
    """What is known before the runs.

    Attributes:
        driver: seconds per request.
        host: whose processors are shared; None where models have devices of their own.
    """

    stations: Mapping[str, Station]
    driver: float
    host: Host | None

    def work(self, run: Recorded) -> list[Script]:
        """Of a run, for these stations."""
        steps = "verifier" in self.stations and self.stations["verifier"].rate < INFINITE
        scripts = stepped(run.scripts, "verifier") if steps else run.scripts
        return graded(scripts, {"driver": self.driver})


def check(settings: dict[str, Any], plain: bool) -> int:
    """Measures, foretells and prints; the exit status."""
    for name in ("replicas", "rows"):
        if not isinstance(settings[name], list) or not all(type(n) is int and n > 0 for n in settings[name]):
            raise ConfigError(name, settings[name], "give a list of whole numbers of at least 1, such as [1,2]")
    if type(settings["rounds"]) is not int or settings["rounds"] < 1:
        raise ConfigError("rounds", settings["rounds"], "give a whole number of at least 1")
    counts = sorted(settings["replicas"])
    before: list[Recorded] = []
    runs: dict[int, list[tuple[Recorded, float]]] = {count: [] for count in counts}
    for number in range(settings["rounds"]):
        with tempfile.TemporaryDirectory(prefix="treewise-check-") as folder:
            other = {**settings, "seed": settings["seed"] + 1 + number}
            before.append(timed(other, counts[0], Path(folder) / "before"))
            for count in counts:
                load = os.getloadavg()[0]
                runs[count].append((timed(settings, count, Path(folder) / str(count)), load))
    known = calibrated(settings, merged(before))
    work = known.work(runs[counts[0]][0][0])
    rows = [foretold(settings, known, work, count, several) for count, several in runs.items()]
    if plain:
        found = {"stations": {name: asdict(station) for name, station in known.stations.items()}}
        more = {"driver": known.driver, "host": known.host and asdict(known.host)}
        sys.stdout.write(json.dumps({**found, **more, "runs": [asdict(row) for row in rows]}, indent=2) + "\n")
    else:
        show(known, rows)
    return 0


def show(known: Rates, rows: Sequence[Checked]) -> None:
    """Prints what was measured beforehand, the runs, and where their time went."""
    out = shown.console()
    for name, station in known.stations.items():
        out.print(f"{name}: {station.said}")
    host = known.host
    crowd = f"{host.cores} processors shared, {host.crowding:.0%} slower while all compute" if host else ""
    shared = crowd or "no processors shared"
    out.print(f"driver: {1000 * known.driver:.2f} ms per request; {shared}\n")
    head = ["replicas", "measured per hour", "formulas", "simulation", "simulation / measured", "seconds of all rounds"]
    cells = [
        [
            str(row.replicas),
            f"{row.measured:,.0f}",
            f"{row.chance:,.0f} to {row.even:,.0f}",
            f"{row.simulated:,.0f}",
            f"{row.simulated / row.measured:.2f}",
            ", ".join(f"{wall:.1f}" for wall in row.walls),
        ]
        for row in rows
    ]
    out.print(shown.table(head, cells))
    names = list(rows[0].spent)
    cells = []
    for row in rows:
        for place, which in enumerate(("measured", "simulated")):
            values = [row.spent[name][place] for name in names]
            cells.append([str(row.replicas), which, *("-" if value is None else f"{value:,.1f}" for value in values)])
    out.print()
    out.print(shown.table(["replicas", "seconds", *names], cells, texts=2))


def _parts(settings: Mapping[str, Any], replicas: int) -> Parts:
    """Of a run over `replicas`."""
    pool = ["pool=local", f"pool.replicas={replicas}", f"pool.verifier.replicas={settings['verifiers']}"]
    asked = [f"task={settings['set']}", f"search={settings['method']}", f"seed={settings['seed']}", "trace=events"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", overrides=[*asked, *pool, *settings["overrides"]])
    return Parts.of(OmegaConf.to_container(composed, resolve=True))


def calibrated(settings: Mapping[str, Any], run: Recorded) -> Rates:
    """From a run; of models that do not tell their pace, by requests of their own."""
    assert run.paced is not None
    asked = {phase.station for script in run.scripts for phase in script.phases}
    parts, stations = _parts(settings, 1), dict[str, Station]()
    host = _host(settings, run.paced, asked)
    for name in sorted(asked & run.paced.models.keys()):
        stations[name] = run.station(name, {"rows": getattr(parts, name).hosting.rows}, host)
    if missing := asked - stations.keys():
        stations |= asyncio.run(_rates(settings, missing))
    return Rates(stations, run.paced.driver(host), host)


def _host(settings: Mapping[str, Any], paced: Paced, asked: set[str]) -> Host | None:
    on = [name for name in paced.models if name in asked and paced.shares(name)]
    if not on:
        return None
    for name in asked & paced.models.keys() - {*on}:
        remedy = f"add {name}.threads=1: of a model that computes with several threads no processor's share is known"
        raise ConfigError("overrides", settings["overrides"], remedy)
    given = {name: value for name, value in settings["host"].items() if value is not None}
    host: Host = make("host", Host, {"cores": cores(), **given, "stations": (*on, "driver")})
    if "crowding" in given or "policy" not in on:
        return host
    parts = [_parts(settings, 1) for _ in range(host.cores)]
    crowd = crowding([each.policy for each in parts], parts[0].task, parts[0].step)
    return replace(host, crowding=asyncio.run(crowd))


async def _rates(settings: Mapping[str, Any], names: set[str]) -> dict[str, Station]:
    """Of one replica of the policy, and of the verifier."""
    parts = _parts(settings, 1)
    found = {}
    async with parts.policy as policy:  # type: ignore[attr-defined]
        if "policy" in names:
            drawn = replace(parts.step, max_tokens=settings["tokens"])
            found["policy"] = await rates.drawing(policy, parts.task, drawn, settings["rows"], settings["repeats"])
        if "verifier" in names:
            assert parts.verifier is not None
            async with parts.verifier as verifier:  # type: ignore[attr-defined]
                found["verifier"] = await rates.judging(verifier, policy, parts.task, settings["repeats"])
    return found


def timed(settings: Mapping[str, Any], replicas: int, folder: Path) -> Recorded:
    """A run; what it took is without its start."""
    parts = _parts(settings, replicas)
    items = cut(parts.task.items(), settings["limit"])
    with opened(folder) as store, open(os.devnull, "w") as nowhere:
        run: dict[str, Any] = {"configuration": {}, "fingerprints": {}}
        runner = Runner(
            parts,
            store,
            items,
            [item.id for item in items],
            settings["method"],
            settings["concurrency"],
            lambda _: store.begin(run),
        )
        asyncio.run(runner(Progress(len(items), file=nowhere)))
        if failed := [row.error for row in store.rows.values() if row.error]:
            raise ConfigError("method", settings["method"], f"{len(failed)} problems failed ({failed[0]})")
    return recorded(folder)


def foretold(
    settings: Mapping[str, Any],
    known: Rates,
    work: Sequence[Script],
    replicas: int,
    several: Sequence[tuple[Recorded, float]],
) -> Checked:
    """Runs of `work` over `replicas`, with the load before each, beside what is foretold of them."""
    walls = [run.paced.wall for run, _ in several if run.paced is not None]
    wall = statistics.median(walls)
    run, load = min(several, key=lambda each: abs(each[0].paced.wall - wall) if each[0].paced else math.inf)
    assert run.paced is not None
    fleet = {"driver": Station(rate=1, full=1, rows=1, replicas=1)}
    fleet |= {name: replace(station, replicas=settings["verifiers"]) for name, station in known.stations.items()}
    fleet["policy"] = replace(fleet["policy"], replicas=replicas)
    needs, count, host = demands(work), len(work), known.host
    concurrency = min(settings["concurrency"], count)
    expected = [
        model.wall(sharing.throughputs(fleet, needs, concurrency, {}, even=even, host=host), count)
        for even in (False, True)
    ]
    outcomes = [Fleet(stations=fleet, host=host).run(work, concurrency=concurrency, seed=seed) for seed in range(SEEDS)]
    middle = sorted(outcomes, key=lambda outcome: outcome.wall)[SEEDS // 2]
    spent: dict[str, tuple[float | None, float]] = {"wall": (run.paced.wall, middle.wall)}
    alone = sum(middle.pools[name].tally.busy for name in (host.stations if host else ()))
    slower = sum(shared.used for shared in middle.hosts) / alone if alone else 1.0
    for name, pool in middle.pools.items():
        spent[name] = (run.paced.spent(name), pool.tally.busy * slower)
    hour = 3600.0 * count
    chance, even = (hour / seconds for seconds in expected)
    return Checked(replicas, hour / wall, chance, even, hour / middle.wall, load, walls, spent)
