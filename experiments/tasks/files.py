"""Where the problems of a benchmark come from: a folder of JSON-lines files, else the `datasets` library."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.errors import ConfigError

VARIABLE = "TREEWISE_DATA"
log = logging.getLogger(__name__)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Remote:
    """A data set of the Hugging Face hub: name, configuration (None: the only one) and split."""

    name: str
    config: str | None
    split: str


def folder(data: str | None) -> Path | None:
    """The data folder: `data`, else the environment variable TREEWISE_DATA; None without either.

    Raises ConfigError for a folder that does not exist.
    """
    given = data or os.environ.get(VARIABLE)
    if not given:
        return None
    path = Path(given).expanduser()
    if not path.is_dir():
        raise ConfigError("data", given, f"there is no such folder; give data=DIR or set {VARIABLE} to one")
    return path


def find(data: str | None, name: str) -> Path | None:
    """The file `name`.jsonl or `name`.jsonl.gz, in the data folder or its subfolder `benchmarks`; None without one."""
    root = folder(data)
    if root is None:
        return None
    paths = [place / f"{name}{ending}" for place in (root, root / "benchmarks") for ending in (".jsonl", ".jsonl.gz")]
    return next((path for path in paths if path.is_file()), None)


def missing(data: str | None, name: str, also: str = "") -> ConfigError:
    """The error for a benchmark that is nowhere to be found."""
    given = data or os.environ.get(VARIABLE)
    remedy = f"give data=DIR (or set {VARIABLE}) with a folder that holds {name}.jsonl or {name}.jsonl.gz"
    return ConfigError("data", given, f"{name}.jsonl is not there; {remedy}" if given else f"{remedy}{also}")


def benchmark(data: str | None, name: str, remote: Remote, convert: Callable[[Row, int], Row]) -> list[Row]:
    """The rows of a benchmark: its file in the data folder, else the data set `remote` with each row converted.

    Args:
        convert: makes a row like the file's from a remote row and its index.

    Raises:
        ConfigError: neither is to be had, or the file is malformed.
    """
    if (path := find(data, name)) is not None:
        log.info("%s: read from %s", name, path)
        return [_complete(path, number, row) for number, row in read_rows(path)]
    try:
        from datasets import load_dataset
    except ImportError:
        raise missing(data, name, "; or install the package `datasets` to download it") from None
    try:
        rows = load_dataset(remote.name, remote.config, split=remote.split)
    except Exception as error:  # the library raises errors of a dozen packages for a missing network alone
        said = (str(error).splitlines() or [""])[0]
        also = f"; downloading {remote.name} failed ({type(error).__name__}: {said[:120]})"
        raise missing(None, name, also) from error
    log.info("%s: %s of the Hugging Face hub", name, remote.name)
    return [convert(row, index) for index, row in enumerate(rows)]


def read_rows(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file (gzip by its name) with their line numbers; blank lines are skipped.

    Raises ConfigError naming file and line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _object(path, number, line)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ConfigError("path", str(path), f"it cannot be read as UTF-8 text ({error})") from error


def _complete(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    if not all(type(row.get(column)) in (str, int) and row[column] != "" for column in ("id", "problem", "answer")):
        raise malformed(path, number, 'lacks "id", "problem" or "answer"; give every row all three')
    return row


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise malformed(path, number, f"is no JSON ({error}); write one object a line") from None
    if not isinstance(row, dict):
        raise malformed(path, number, "is not a JSON object; write one object a line")
    return row


def malformed(path: Path, number: int, remedy: str) -> ConfigError:
    """The error for one line of a file."""
    return ConfigError("path", str(path), f"line {number} {remedy}")
