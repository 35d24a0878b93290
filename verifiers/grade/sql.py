"""Queries on SQLite: run read-only in a killable process within limits, and compared by what they give.

A query may read and nothing else: the file is opened read-only, everything but SELECT is refused by SQLite's own
authorizer, `ATTACH` and extensions included, and time and memory are limited (`verifiers.grade.pool`).
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from search.errors import VerifierError
from verifiers.grade.pool import Pool

MOST_ROWS = 10_000  # compared at all; a result with more is cut there, and says so
MOST_TEXT = 10_000  # characters of one cell
STEPS = 10_000  # instructions of SQLite's machine between looks at the clock
# the functions of SQLite that touch files or load code
FORBIDDEN = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"}
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


@dataclass(frozen=True, slots=True)
class Table:
    """What a query gave.

    Attributes:
        columns: their names.
        rows: of numbers, texts and None; binary data as hexadecimal text.
        more: there were more rows than `MOST_ROWS`.
        error: why it gave nothing; "" where it did.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    more: bool = False
    error: str = ""

    def key(self, ordered: bool = False) -> tuple[Any, ...]:
        """What is equal for results that are equal: the rows, their order if `ordered`; names of columns do not count.

        A whole number equals the same number written as a decimal fraction, and fractions count to nine digits.
        """
        rows = [tuple(map(_cell, row)) for row in self.rows]
        return (self.error, *(rows if ordered else sorted(Counter(rows).items(), key=repr)))

    def show(self, rows: int) -> str:
        """For a model to read: names of columns and the first `rows`, or the error."""
        if self.error:
            return f"error: {self.error}"
        lines = [" | ".join(self.columns), *(" | ".join(map(_written, row)) for row in self.rows[:rows])]
        left = len(self.rows) - rows
        return "\n".join([*lines, f"({left}{'+' if self.more else ''} more rows)"] if left > 0 else lines)


def _cell(value: Any) -> tuple[str, Any]:
    if isinstance(value, (int, float)):
        return "number", float(f"{value:.9g}") if isinstance(value, float) or abs(value) < 10**9 else value
    return type(value).__name__, value


def _written(value: Any) -> str:
    return "NULL" if value is None else str(value)


def ordered(sql: str) -> bool:
    """Whether the order of the rows is part of what is asked: an ORDER BY outside all brackets."""
    depth, outside = 0, []
    for sign in re.sub(r"'[^']*'|\"[^\"]*\"", " ", sql):
        depth += (sign == "(") - (sign == ")")
        outside.append(sign if depth == 0 else " ")
    return re.search(r"\border\s+by\b", "".join(outside), re.IGNORECASE) is not None


def execute(path: str, sql: str, seconds: float) -> dict[str, Any]:
    """Run one query on the database file `path`; for the process of the pool. Errors of the query are its result."""
    until = time.process_time() + seconds
    connection = sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 26)
        connection.execute("PRAGMA query_only = 1")
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: time.process_time() > until, STEPS)
        cursor = connection.execute(sql)
        if cursor.description is None:
            return {"error": "it is no query"}
        rows = cursor.fetchmany(MOST_ROWS + 1)
        columns = [column[0] for column in cursor.description]
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        late = time.process_time() > until
        return {"error": f"over {seconds:g} s" if late else " ".join(str(error).split())[:300]}
    finally:
        connection.close()
    plain = [[cell.hex() if isinstance(cell, bytes) else _cut(cell) for cell in row] for row in rows[:MOST_ROWS]]
    return {"columns": columns, "rows": plain, "more": len(rows) > MOST_ROWS}


def _authorize(action: int, first: str | None, second: str | None, *_: Any) -> int:
    allowed = action in READS and not (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FORBIDDEN)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def _cut(cell: Any) -> Any:
    return cell[:MOST_TEXT] if isinstance(cell, str) else cell


_pools: dict[float, Pool] = {}
_lock = threading.Lock()


def pool(seconds: float) -> Pool:
    """The processes for queries of at most so many seconds, made on first use."""
    with _lock:
        if seconds not in _pools:
            _pools[seconds] = Pool(cpu=seconds + 1.0, memory=1 << 30, warm=None)
        return _pools[seconds]


async def run_query(path: Path, sql: str, seconds: float = 5.0) -> Table:
    """What `sql` gives on a database. Raises VerifierError where the file cannot be read at all.

    Args:
        seconds: of processor time.
    """
    if not path.is_file():
        raise VerifierError(f"there is no database {path}")
    done = await pool(seconds).run("verifiers.grade.sql:execute", str(path), sql, seconds)
    if done.kind != "done":
        return Table(error="over its memory" if done.kind == "memory" else f"over {seconds:g} s")
    if done.value.get("error"):
        return Table(error=done.value["error"])
    return Table(tuple(done.value["columns"]), tuple(map(tuple, done.value["rows"])), done.value["more"])
