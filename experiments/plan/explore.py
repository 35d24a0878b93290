"""What routing, stragglers and losses of replicas do to a large pool: a table from the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from experiments.plan.script import Work
from experiments.plan.shown import console, table
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station
from policies.pool.rules import Rules

ROUTINGS = ("affine", "random", "least")


@dataclass(frozen=True)
class Cell:
    """One setting and what came of it.

    Attributes:
        spread: sigma of the logarithm of a draw's tokens.
        between: mean seconds between two losses of one replica; None for none.
        per_hour: problems solved.
        hits: share of prompt tokens found in a cache.
        p50, p99: seconds of a problem.
        busy: share of the replicas' time.
        lost: share of tokens that were for nothing: their replica was lost.
        again: requests asked again.
        replaced: replicas.
    """

    routing: str
    spread: float
    between: float | None
    per_hour: float
    hits: float
    p50: float
    p99: float
    busy: float
    lost: float
    again: int
    replaced: int
    failed: int


def explore(
    station: Station,
    work: Work,
    *,
    problems: int,
    spreads: tuple[float, ...],
    losses: tuple[float | None, ...],
    start: float,
    seed: int,
    per_replica: int = 4,
    spill: int = Rules().spill,
) -> Iterator[Cell]:
    """A cell for each routing, spread and rate of losses; `per_replica` problems in work for each replica."""
    replicas = station.replicas or 1
    for spread in spreads:
        scripts = replace(work, spread=spread, passes=0).scripts(problems, seed)
        for between in losses:
            for routing in ROUTINGS:
                rules = Rules(replicas=replicas, rows=station.rows or 10**9, spill=spill, queue=10**9, retries=20)
                fleet = Fleet(
                    stations={"policy": station},
                    rules={"policy": rules},
                    faults={"policy": Faults(between=between, start=start)},
                    routing=routing,
                )
                outcome = fleet.run(scripts, concurrency=per_replica * replicas, seed=seed)
                pool = outcome.pools["policy"]
                yield Cell(
                    routing,
                    spread,
                    between,
                    3600 * problems / outcome.wall,
                    outcome.hits(),
                    outcome.quantile(0.5),
                    outcome.quantile(0.99),
                    outcome.busy("policy"),
                    outcome.lost(),
                    pool.counters.again,
                    sum(pool.counters.replaced.values()),
                    outcome.failed,
                )


def show(cells: list[Cell]) -> None:
    """Prints the table."""
    rows = [
        [
            cell.routing,
            f"{cell.spread:g}",
            "none" if cell.between is None else f"every {cell.between:,.0f} s",
            f"{cell.per_hour:,.0f}",
            f"{cell.hits:.1%}",
            f"{cell.p50:,.1f}",
            f"{cell.p99:,.1f}",
            f"{cell.busy:.0%}",
            f"{cell.lost:.2%}",
            f"{cell.again:,}",
            f"{cell.replaced:,}",
        ]
        for cell in cells
    ]
    head = ["routing", "spread", "losses", "per hour", "hits", "p50 s", "p99 s", "busy", "lost", "again", "replaced"]
    console().print(table(head, rows, texts=3))


def cells_to_json(cells: list[Cell]) -> list[dict[str, Any]]:
    """Plain values."""
    return [asdict(cell) for cell in cells]
