"""Plans a pool: how many replicas of what for so many problems per hour, what is full first, and what it costs.

    python -m experiments.plan run=runs/first problems_per_hour=5000 policy.price=2.5 verifier.price=1.2
    python -m experiments.plan policy.rate=50 policy.full=2000 policy.rows=64 problems_per_hour=600
    python -m experiments.plan run=runs/first problems=500 concurrency=64 policy.replicas=4 verifier.replicas=1
    python -m experiments.plan explore replicas=200        # routing x stragglers x losses of replicas, simulated
    python -m experiments.plan check replicas=[1,2]        # this machine: real runs against formulas and simulation

The settings are those of conf/plan.yaml, conf/explore.yaml and conf/check.yaml; `--format json` prints for programs.
Formulas: `experiments.plan.model`; simulation: `experiments.plan.simulation`, which routes and scales by the rules of
the pool itself; models that compute on processors share those of a host (`host.cores`, by default the run's machine's).
`load` is what comes over what a replica could do with all rows at work, `busy` the share of time in which it does
anything. Exit status: 0; 2 for a setting that is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.build import check_types, make
from experiments.command import fault, run
from experiments.plan import answer, explore, shown
from experiments.plan.check import check
from experiments.plan.script import Work
from experiments.plan.settings import Question
from experiments.plan.station import Station
from search.errors import ConfigError

JOBS = ("plan", "explore", "check")


def planned(settings: dict[str, Any], plain: bool) -> int:
    """A plan, printed."""
    found = answer.plan(Question.of(settings))
    if plain:
        _print(found.to_json())
    else:
        shown.show(found)
    return 0


def explored(settings: dict[str, Any], plain: bool) -> int:
    """The table of an exploration, printed."""
    check_types("explore", _Explored, settings)
    for name in ("replicas", "problems", "per_replica"):
        if settings[name] < 1:
            raise ConfigError(name, settings[name], "give a whole number of at least 1")
    for name in ("spreads", "losses"):
        if not isinstance(settings[name], list) or not settings[name]:
            raise ConfigError(name, settings[name], "give a list such as [0.5,1.2]")
    for between in settings["losses"]:
        if between is not None and not (isinstance(between, int | float) and between > 0):
            raise ConfigError("losses", between, "give positive numbers of seconds, or null")
    station = make("policy", Station, {**settings["policy"], "replicas": settings["replicas"]})
    cells = list(
        explore.explore(
            station,
            make("work", Work, settings["work"]),
            problems=settings["problems"],
            spreads=tuple(settings["spreads"]),
            losses=tuple(settings["losses"]),
            start=settings["start"],
            seed=settings["seed"],
            per_replica=settings["per_replica"],
            spill=settings["spill"],
        )
    )
    if plain:
        _print(explore.cells_to_json(cells))
    else:
        explore.show(cells)
    return 0


class _Explored:
    """The types of an exploration's settings."""

    def __init__(
        self,
        replicas: int,
        problems: int,
        per_replica: int,
        start: float,
        spill: int,
        seed: int,
        work: Any,
        spreads: Any,
        losses: Any,
        policy: Any,
    ): ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    plain = False
    if "--format" in given:
        at = given.index("--format")
        form = given[at + 1] if at + 1 < len(given) else ""
        if form not in ("json", "table"):
            return fault(f"--format={form!r} is not valid: choose from table, json")
        plain = form == "json"
        del given[at : at + 2]
    job = given.pop(0) if given and given[0] in JOBS else "plan"
    if given and "=" not in given[0] and not given[0].startswith("-"):
        return fault(f"{given[0]!r} is not valid: choose from {', '.join(JOBS)}, then settings as name=value")
    jobs = {"plan": planned, "explore": explored, "check": check}

    def composed(config: DictConfig, _: Sequence[str]) -> int:
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)
        return jobs[job](settings, plain)

    return run(composed, given, job)


def _print(content: object) -> None:
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
