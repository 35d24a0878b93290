"""What a run prints at its end: a table of rows if they are few, the totals, and where everything lies."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.item import Item
from experiments.progress import Progress
from experiments.report import percent, summarise, table
from experiments.rows import Row
from experiments.store import Store
from experiments.trace import answer_text

FEW = 25  # rows worth a line each


def show(store: Store, keys: Sequence[tuple[Item, int]], progress: Progress) -> None:
    """Prints the result of one run to standard output.

    Args:
        keys: the items and seeds of this start, in order.
        progress: its display, for the time it took.
    """
    found = [(item, store.rows[item.id, seed]) for item, seed in keys if (item.id, seed) in store.rows]
    lines = [""]
    if len(found) == 1 and (text := _solution(store, found[0][1])):
        lines += [text, ""]
    if len(found) <= FEW:
        lines += [_rows(found), ""]
    lines += [_totals([row for _, row in found], progress), ""]
    lines += [f"results  {store.folder / 'results.jsonl'}"]
    if any(row.cost.drafted for _, row in found) and (told := store.folder / "speculation.json").is_file():
        lines += [f"guesses  {_guesses(told)} ({told})"]
    if any(row.trace for _, row in found):
        lines += [f"traces   {store.folder / 'traces'}/"]
    sys.stdout.write("\n".join(lines) + "\n")


def _guesses(path: Path) -> str:
    told = json.loads(path.read_text(encoding="utf-8"))
    shares = [f"{told['accepted'][name]:,} of {told['drafted'][name]:,} by {name}" for name in told["drafted"]]
    passes = f"{told['tokens'] / max(told['drafted_passes'], 1):.2f} tokens per row and forward that had guesses"
    return f"right: {', '.join(shares)}; {passes}"


def _solution(store: Store, row: Row) -> str | None:
    path = store.folder / row.trace if row.trace else None
    return _safe(answer_text(path).strip()) if path and path.is_file() else None


def _rows(found: Sequence[tuple[Item, Row]]) -> str:
    marks = {True: "yes", False: "no", None: "-"}
    return table(
        ["item", "question", "answer", "right", "score", "tokens", "passes", "seconds", "stopped"],
        [
            [
                row.item if row.seed == 0 else f"{row.item} seed {row.seed}",
                _short(item.question, 40),
                _short(row.answer or "-", 30) if row.error is None else _short(row.error, 60),
                marks[row.correct],
                "-" if row.score is None else f"{row.score:.3f}",
                f"{row.cost.generated:,}",
                f"{row.cost.passes:,}",
                f"{row.wall:.1f}",
                row.stopped,
            ]
            for item, row in found
        ],
        text_columns=4,
    )


def _totals(rows: Sequence[Row], progress: Progress) -> str:
    s = summarise("run", rows)
    tokens = sum(row.cost.generated for row in rows)
    cells = {
        "task": s.task,
        "search": s.search,
        "rows": f"{len(rows)}",
        "accuracy % [95 %]": percent(s.accuracy),
        "tokens per item": f"{s.generated:,.0f}",
        "tokens": f"{tokens:,}",
        "passes per item": f"{s.passes:,.1f}",
        "wall s": f"{progress.seconds:,.1f}",
        "errors": f"{s.errors}",
    }
    return table(list(cells), [list(cells.values())], text_columns=2)


def _short(text: str, width: int) -> str:
    line = _safe(" ".join(text.split())).replace("|", "\\|")
    return line if len(line) <= width else line[: width - 3] + "..."


def _safe(text: str) -> str:
    """What a model wrote, without signs that would steer the terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)
