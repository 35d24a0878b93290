"""Plans and explorations as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from experiments.plan.answer import Plan

WIDE = 110  # columns where the output is no terminal


def console() -> Console:
    """Of standard output."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE, highlight=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Table:
    """A table; all but the first `texts` columns are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(head):
        made.add_column(name, justify="left" if number < texts else "right")
    for row in rows:
        made.add_row(*row)
    return made


def show(plan: Plan) -> None:
    """Prints a plan."""
    out = console()
    rows = [
        [
            f"{name} *" if name == plan.binding else name,
            f"{line.replicas:,}",
            f"{line.load:.0%}",
            "-" if line.busy is None else f"{line.busy:.0%}",
            "-" if line.waiting is None else f"{line.waiting:.1%}",
            f"{line.most:,.0f}",
            f"{line.price:,.2f}",
        ]
        for name, line in plan.stations.items()
    ]
    out.print(table(["station", "replicas", "load", "busy", "wait first", "most per hour", "price per hour"], rows))
    out.print(
        f"* binding: {plan.binding} is full first, at {plan.stations[plan.binding].most:,.0f} problems per hour\n"
    )
    s = plan.simulated
    rows = [
        ["problems per hour", f"{plan.rate:,.0f}", _of(s, "rate", ",.0f")],
        ["seconds per problem", f"{plan.seconds:,.1f}", _of(s, "seconds", ",.1f")],
        ["  half of them within", "", _of(s, "p50", ",.1f")],
        ["  99 % of them within", "", _of(s, "p99", ",.1f")],
        ["problems in work", f"{plan.concurrency:,.1f}", ""],
        ["prompt tokens in a cache", "", _of(s, "hits", ".1%")],
    ]
    if plan.wall is not None:
        chance, even, least = plan.wall
        rows.append(["seconds for all", f"{even:,.0f} to {chance:,.0f}", _of(s, "wall", ",.0f")])
        rows.append(["  at least", f"{least:,.0f}", ""])
    rows.append(["price per hour", f"{plan.per_hour:,.2f}", ""])
    rows.append(["price per 1,000 problems", f"{plan.per_thousand:,.2f}", ""])
    out.print(table(["", "formulas", "simulation"], rows))
    if s is not None:
        out.print(f"\nsimulated: {s['problems']:,.0f} problems")
    for note in plan.notes:
        out.print(note)


def _of(values: object, name: str, form: str) -> str:
    return format(values[name], form) if isinstance(values, dict) else "-"
