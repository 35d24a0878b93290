"""Tables from run folders: accuracy with its interval, what was spent, paired differences between runs.

    python -m experiments.report runs/game24-astar runs/game24-greedy --format md

Spent, never limits: a run is placed by the tokens it used. Intervals are 95 % percentile bootstraps over items; seeds
of one item are averaged first, so that more seeds narrow the noise of sampling and not that of the choice of items.
An item that failed with an error has no answer to grade: it is counted among the errors, not in the accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from experiments.rows import Row, read_rows
from experiments.store import read_run
from search.errors import ConfigError

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; all nan where there is nothing to average."""

    mean: float
    low: float
    high: float


def bootstrap(values: Sequence[float], resamples: int = RESAMPLES) -> Interval:
    """The mean of `values` and its 95 % percentile interval over resampled values; the same for equal input."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    data = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).integers(len(data), size=(resamples, len(data)))
    low, high = np.percentile(data[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(data.mean()), float(low), float(high))


@dataclass(frozen=True)
class Summary:
    """One run in numbers; the means are per row, that is per item and seed."""

    run: str
    task: str
    search: str
    items: int
    seeds: int
    graded: int  # rows with a reference answer
    accuracy: Interval
    generated: float  # tokens
    passes: float  # sequences read by the verifier
    read: float  # tokens read by the verifier
    wall: float  # seconds
    errors: int


@dataclass(frozen=True)
class Pair:
    """How run `b` differs from run `a` on the (item, seed) both have."""

    a: str
    b: str
    rows: int
    accuracy: Interval  # of b minus a
    generated: float  # ratio of tokens, b over a
    passes: float  # ratio, b over a


def _per_item(rows: Sequence[Row], values: Sequence[float]) -> list[float]:
    grouped: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        grouped.setdefault(row.item, []).append(value)
    return [sum(group) / len(group) for group in grouped.values()]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")


def summarise(run: str, rows: Sequence[Row]) -> Summary:
    """The line of one run; raises ConfigError if it has no rows."""
    if not rows:
        raise ConfigError("run", run, "results.jsonl has no rows yet; run the same command again to go on")
    graded = [row for row in rows if row.correct is not None]
    return Summary(
        run=run,
        task="+".join(sorted({row.task for row in rows})),
        search="+".join(sorted({row.search for row in rows})),
        items=len({row.item for row in rows}),
        seeds=len({row.seed for row in rows}),
        graded=len(graded),
        accuracy=bootstrap(_per_item(graded, [float(bool(row.correct)) for row in graded])),
        generated=_mean([row.cost.generated for row in rows]),
        passes=_mean([row.cost.passes for row in rows]),
        read=_mean([row.cost.read for row in rows]),
        wall=_mean([row.wall for row in rows]),
        errors=sum(row.error is not None for row in rows),
    )


def compare(a: str, a_rows: Sequence[Row], b: str, b_rows: Sequence[Row]) -> Pair | None:
    """The paired difference of two runs; None if they share no graded (item, seed)."""
    first = {(row.task, *row.key): row for row in a_rows if row.correct is not None}
    pairs = [(first[key], row) for row in b_rows if row.correct is not None and (key := (row.task, *row.key)) in first]
    if not pairs:
        return None
    differences = [float(bool(y.correct)) - float(bool(x.correct)) for x, y in pairs]
    return Pair(
        a=a,
        b=b,
        rows=len(pairs),
        accuracy=bootstrap(_per_item([x for x, _ in pairs], differences)),
        generated=_ratio(sum(y.cost.generated for _, y in pairs), sum(x.cost.generated for x, _ in pairs)),
        passes=_ratio(sum(y.cost.passes for _, y in pairs), sum(x.cost.passes for x, _ in pairs)),
    )


def _number(value: float, form: str = ",.0f") -> str:
    return "-" if value != value else format(value, form)


def percent(interval: Interval, signed: bool = False) -> str:
    """In percent with its ends; "-" for nothing."""
    if interval.mean != interval.mean:
        return "-"
    sign = "+" if signed else ""
    low, high = format(100 * interval.low, f"{sign}.1f"), format(100 * interval.high, f"{sign}.1f")
    return f"{format(100 * interval.mean, f'{sign}.1f')} [{low}, {high}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """A Markdown table that also reads well unrendered; all but the first columns are aligned right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        sides = (
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join(sides) + " |"

    rule = ["-" * w if i < text_columns else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def markdown(summaries: Sequence[Summary], pairs: Sequence[Pair]) -> str:
    """Both tables as Markdown."""
    text = table(
        ["run", "task", "search", "items", "seeds", "accuracy % [95 %]", "tokens", "passes", "wall s", "errors"],
        [
            [
                s.run,
                s.task,
                s.search,
                str(s.items),
                str(s.seeds),
                percent(s.accuracy),
                _number(s.generated),
                _number(s.passes, ",.1f"),
                _number(s.wall, ",.2f"),
                str(s.errors),
            ]
            for s in summaries
        ],
        text_columns=3,
    )
    text += "\n\nTokens (generated), passes and wall are means per item and seed.\n"
    if pairs:
        text += "\nPaired differences on the items and seeds both runs have:\n\n"
        text += table(
            ["run", "against", "pairs", "accuracy points [95 %]", "tokens ratio", "passes ratio"],
            [
                [
                    p.b,
                    p.a,
                    str(p.rows),
                    percent(p.accuracy, True),
                    _number(p.generated, ".2f"),
                    _number(p.passes, ".2f"),
                ]
                for p in pairs
            ],
            text_columns=2,
        )
        text += "\n"
    return text


def _plain(value: Any) -> Any:
    """For JSON: not a number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and value != value else value


def load(folders: Sequence[Path]) -> dict[str, list[Row]]:
    """Rows by run, named by the shortest ends of the paths that tell them apart; raises ConfigError."""
    for folder in folders:
        read_run(folder, "run")
    resolved = list(dict.fromkeys(folder.resolve() for folder in folders))
    depth = 1
    while len({folder.parts[-depth:] for folder in resolved}) < len(resolved):
        depth += 1
    return {"/".join(folder.parts[-depth:]): read_rows(folder, "run") for folder in resolved}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status: 2 for a folder that is not a run."""
    parser = argparse.ArgumentParser(prog="experiments.report", description="Tables from run folders.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--format", choices=("md", "json"), default="md")
    options = parser.parse_args(arguments)
    try:
        runs = load(options.folders)
        summaries = [summarise(name, rows) for name, rows in runs.items()]
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    pairs = [p for a, b in combinations(runs, 2) if (p := compare(a, runs[a], b, runs[b]))]
    if options.format == "json":
        report = {"runs": [_plain(asdict(s)) for s in summaries], "pairs": [_plain(asdict(p)) for p in pairs]}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(markdown(summaries, pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
