"""Real runs on this machine over pools of processes, against what formulas and simulation foretell.

Measured beforehand: the rates of one replica (`experiments.plan.rates`). Taken from the run with the fewest
replicas: the tree of every problem, and the driver's processor time per request. All else is foretold, also its time.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from experiments.commandline import CONF
from experiments.item import cut
from experiments.parts import Parts
from experiments.plan import model, rates
from experiments.plan.demand import demands
from experiments.plan.recorded import recorded
from experiments.plan.script import graded
from experiments.plan.shown import console, table
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station
from experiments.progress import Progress
from experiments.runner import Runner
from experiments.store import opened
from search.errors import ConfigError


@dataclass(frozen=True)
class Checked:
    """One run.

    Attributes:
        replicas: of the policy.
        measured: problems per hour.
        chance, even: by the formulas, replicas getting what chance gives them or sharing evenly.
        simulated: by the simulation.
        load: runnable programs on this machine when it began, beside processors (`os.getloadavg`).
    """

    replicas: int
    measured: float
    chance: float
    even: float
    simulated: float
    load: float


def check(settings: dict[str, Any], plain: bool) -> int:
    """Measures, foretells and prints; the exit status."""
    for name in ("replicas", "rows"):
        if not isinstance(settings[name], list) or not all(type(n) is int and n > 0 for n in settings[name]):
            raise ConfigError(name, settings[name], "give a list of whole numbers of at least 1, such as [1,2]")
    stations, rows = asyncio.run(_rates(settings)), []
    work = None
    for replicas in sorted(settings["replicas"]):
        with tempfile.TemporaryDirectory(prefix="treewise-check-") as folder:
            load, wall, cpu, calls = os.getloadavg()[0], *timed(settings, replicas, Path(folder) / "run")
            if work is None:
                work = graded(recorded(Path(folder) / "run").scripts, {"driver": cpu / calls})
        rows.append(foretold(settings, stations, work, replicas, 3600 * len(work) / wall, load))
    found = {"stations": {name: asdict(station) for name, station in stations.items()}}
    if plain:
        sys.stdout.write(json.dumps({**found, "runs": [asdict(row) for row in rows]}, indent=2) + "\n")
        return 0
    for name, station in stations.items():
        drawn = (
            f"{station.rate:,.0f} tokens/s alone, {station.full:,.0f} by {station.rows} rows, " if station.full else ""
        )
        said = f"{1000 * station.call:.2f} ms per request, {1000 * station.draw:.2f} ms per draw"
        console().print(f"{name}: {drawn}{station.prefill:,.0f} of prompts, {said}")
    head = ["replicas", "measured per hour", "formulas", "simulation", "simulation / measured", "load average"]
    cells = [
        [
            str(row.replicas),
            f"{row.measured:,.0f}",
            f"{row.chance:,.0f} to {row.even:,.0f}",
            f"{row.simulated:,.0f}",
            f"{row.simulated / row.measured:.2f}",
            f"{row.load:.1f}",
        ]
        for row in rows
    ]
    console().print(table(head, cells))
    return 0


def _parts(settings: Mapping[str, Any], replicas: int) -> Parts:
    """Of a run over `replicas`."""
    pool = ["pool=local", f"pool.replicas={replicas}", f"pool.verifier.replicas={settings['verifiers']}"]
    asked = [f"task={settings['task']}", f"search={settings['search']}", f"seed={settings['seed']}", "trace=events"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composed = compose("config", overrides=[*asked, *pool, *settings["overrides"]])
    return Parts.of(OmegaConf.to_container(composed, resolve=True))


async def _rates(settings: Mapping[str, Any]) -> dict[str, Station]:
    """Of one replica of the policy, and of the verifier if the search has one."""
    parts = _parts(settings, 1)
    found = {}
    async with parts.policy as policy:  # type: ignore[attr-defined]
        found["policy"] = await rates.drawing(
            policy,
            parts.task,
            replace(parts.step, max_tokens=settings["tokens"]),
            settings["rows"],
            settings["repeats"],
        )
        if parts.verifier is not None:
            async with parts.verifier as verifier:  # type: ignore[attr-defined]
                found["verifier"] = await rates.judging(verifier, policy, parts.task, settings["repeats"])
    return found


def timed(settings: Mapping[str, Any], replicas: int, folder: Path) -> tuple[float, float, int]:
    """Seconds of wall time, the driver's seconds of processor time, and requests, of a run without its start."""
    parts = _parts(settings, replicas)
    items = cut(parts.task.items(), settings["limit"])
    times: list[tuple[float, float]] = []

    class Timed(Progress):
        """Notes the time when the models are loaded, and when the last item is done."""

        def __enter__(self) -> Progress:
            times.append((time.perf_counter(), time.process_time()))
            return self

        def __exit__(self, *_: object) -> None:
            times.append((time.perf_counter(), time.process_time()))

    with opened(folder) as store, open(os.devnull, "w") as nowhere:
        run: dict[str, Any] = {"configuration": {}, "fingerprints": {}}
        runner = Runner(
            parts,
            store,
            items,
            [item.id for item in items],
            settings["search"],
            settings["concurrency"],
            lambda _: store.begin(run),
        )
        asyncio.run(runner(Timed(len(items), file=nowhere)))
        if failed := [row.error for row in store.rows.values() if row.error]:
            raise ConfigError("search", settings["search"], f"{len(failed)} problems failed ({failed[0]})")
        calls = sum(row.cost.policy_calls for row in store.rows.values())
    (began, cpu), (ended, used) = times
    return ended - began, used - cpu, calls


def foretold(
    settings: Mapping[str, Any], stations: Mapping[str, Station], work: Any, replicas: int, measured: float, load: float
) -> Checked:
    """A run of `work` over `replicas`, `measured` problems per hour, beside what is foretold of it."""
    driver = Station(rate=1, full=1, rows=1, replicas=1)
    fleet = {"driver": driver, "policy": replace(stations["policy"], replicas=replicas)}
    if "verifier" in stations:
        fleet["verifier"] = replace(stations["verifier"], replicas=settings["verifiers"])
    needs, count = demands(work), len(work)
    concurrency = min(settings["concurrency"], count)
    walls = [model.wall(model.throughputs(fleet, needs, concurrency, {}, even=even), count) for even in (False, True)]
    runs = [Fleet(stations=fleet).run(work, concurrency=concurrency, seed=seed).wall for seed in range(3)]
    hour = 3600.0 * count
    return Checked(replicas, measured, hour / walls[0], hour / walls[1], hour / statistics.median(runs), load)
