"""Puts the folders of several drivers together: `python -m experiments.merge OUT SHARD...`.

Each driver ran the same configuration with `shard=i/n` and an `out` of its own. OUT becomes a run folder like that of
one driver: a row per (item, seed), in the order of the task. A row that is there twice is taken once: one without an
error where there is one, else the first.

Exit status: 0; 2 where the folders do not belong together.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.rows import Row, read_rows
from experiments.store import Store, differences, opened, read_run
from search.errors import ConfigError


def merge(out: Path, shards: Sequence[Path]) -> Store:
    """Adds the rows and traces of `shards` to the run in `out`, which is made if needed; may be repeated.

    Raises ConfigError if a folder is no run, or they differ in configuration or models.
    """
    runs = [read_run(folder, "shard") for folder in shards]
    for folder, run in zip(shards, runs, strict=True):
        for part in ("configuration", "fingerprints"):
            if differs := differences(runs[0][part], run[part]):
                raise ConfigError("shard", str(folder), f"it is another run than {shards[0]}: {', '.join(differs[:3])}")
    with opened(out) as store:
        whole = {**runs[0]["configuration"], "shard": None, "out": str(out)}
        store.begin({**runs[0], "configuration": whole, "merged": [str(folder) for folder in shards]})
        ranks: dict[str, tuple[int, int]] = {}
        for number, folder in enumerate(_in_order(shards)):
            for place, row in enumerate(read_rows(folder, "shard")):
                ranks.setdefault(row.item, (place, number))
                if (known := store.rows.get(row.key)) is None or (known.error is not None and row.error is None):
                    _take(store, folder, row)
        store.settle(sorted((row.item for row in store.rows.values()), key=lambda item: ranks.get(item, (0, -1))))
    return store


def _in_order(shards: Sequence[Path]) -> list[Path]:
    """By the number of the shard, whose i-th items come i-th in the task."""

    def number(folder: Path) -> int:
        return int((read_run(folder)["configuration"].get("shard") or "0/1").partition("/")[0])

    return sorted(shards, key=number)


def _take(store: Store, folder: Path, row: Row) -> None:
    if row.trace and (folder / row.trace).is_file():
        (store.folder / "traces").mkdir(exist_ok=True)
        shutil.copyfile(folder / row.trace, store.folder / row.trace)
    store.append(row)


def main(arguments: Sequence[str] | None = None) -> int:
    """Merges; prints how many rows there are."""
    parser = argparse.ArgumentParser(
        prog="experiments.merge", description="Puts the folders of several drivers together."
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", type=Path, nargs="+", metavar="shard")
    wanted = parser.parse_args(arguments)
    try:
        store = merge(wanted.out, wanted.shards)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{len(store.rows)} rows  {store.folder / 'results.jsonl'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
