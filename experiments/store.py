"""A run folder: one row per (item, seed) in results.jsonl, what was run in run.json, one writer at a time.

    speculation.json  guesses made and right in the latest start, by drafter and depth; where the policy speculates
    run.json        configuration, versions, fingerprints, git state; `resumed` lists later starts, `pace` what the
                    processes of the latest took (`experiments.pace`)
    results.jsonl   rows, appended one whole line at a time; in the order of the task once a run has ended
    journals/       what the models answered for items not finished or failed (for all with `trace.journal=true`)
    traces/         the events of each item (with `trace.events=true`)

Whatever kills a run leaves a folder that the same command takes up again: a torn last line is cut off, finished items
are skipped, half-done ones are replayed from their journal.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from experiments.rows import Row, read_rows
from search.errors import ConfigError

VERSION = 1
# settings that do not change any row, so a run may be taken up with others
FREE = (
    "pool",
    "out",
    "seed",
    "limit",
    "offset",
    "question",
    "concurrency",
    "read_ahead",
    "data",
    "task.data",
    "retry_errors",
    "trace",
    "shard",
    "dry_run",
)


def read_run(folder: Path, setting: str = "out") -> dict[str, Any]:
    """The contents of run.json. Raises ConfigError if the folder is not a run."""
    path = folder / "run.json"
    if not folder.is_dir():
        raise ConfigError(setting, str(folder), "there is no such folder")
    if not path.is_file():
        raise ConfigError(setting, str(folder), "the folder holds no run.json, so it is not a run")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if run["version"] != VERSION:
            raise ConfigError(
                setting, str(folder), f"run.json has version {run['version']}, this program reads {VERSION}"
            )
        if not isinstance(run["configuration"], dict):
            raise TypeError("no configuration")
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(setting, str(folder), f"run.json is broken ({error})") from None
    return run


def replace(path: Path, text: str) -> None:
    """Writes a whole file at once: readers and crashes see the old one or the new one."""
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings in which two runs differ, as "search.width is 4 there and 8 here"; free settings are left out."""
    free = tuple(f"{name}." for name in FREE)
    a = {k: v for k, v in _flat(old) if not f"{k}.".startswith(free)}
    b = {k: v for k, v in _flat(new) if not f"{k}.".startswith(free)}
    absent = object()

    def show(value: Any) -> str:
        return "absent" if value is absent else json.dumps(value)

    return [
        f"{key} is {show(a.get(key, absent))} there and {show(b.get(key, absent))} here"
        for key in sorted(a.keys() | b.keys())
        if a.get(key, absent) != b.get(key, absent)
    ]


@dataclass
class Store:
    """An open run folder: made by `opened`, which holds its lock."""

    folder: Path
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)

    def begin(self, run: Mapping[str, Any]) -> None:
        """Writes run.json, or checks that the folder belongs to the same configuration and models.

        Args:
            run: "configuration" and "fingerprints" must agree with what the folder holds; the rest describes this
                start (versions, git state, command, time) and is added to `resumed`.

        Raises:
            ConfigError: they do not agree; says in what.
        """
        path = self.folder / "run.json"
        if not path.exists():
            replace(path, json.dumps({"version": VERSION, **run, "resumed": []}, indent=2) + "\n")
            return
        for part in ("configuration", "fingerprints"):
            self.check(run[part], part)
        old = read_run(self.folder)
        start = {key: value for key, value in run.items() if key not in ("configuration", "fingerprints")}
        replace(path, json.dumps({**old, "resumed": [*old.get("resumed", []), start]}, indent=2) + "\n")

    def check(self, new: Mapping[str, Any], part: str) -> None:
        """Raises ConfigError if run.json is there and its `part` is not `new`."""
        if not (self.folder / "run.json").exists():
            return
        if differs := differences(read_run(self.folder)[part], new):
            more = f" (and {len(differs) - 3} more)" if len(differs) > 3 else ""
            raise ConfigError(
                "out",
                str(self.folder),
                f"it holds another run: {', '.join(differs[:3])}{more}; choose another folder or the same settings",
            )

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Adds something worth keeping to run.json, if the run has begun."""
        if (path := self.folder / "run.json").exists():
            replace(path, json.dumps({**read_run(self.folder), name: content}, indent=2) + "\n")

    def discard(self) -> None:
        """Takes a run away that has no row yet: its settings turned out to be wrong."""
        if not self.rows:
            for path in (self.folder / "run.json", *self.folder.glob("journals/*"), *self.folder.glob("traces/*")):
                path.unlink(missing_ok=True)

    def append(self, row: Row) -> None:
        """Adds a row, on the disk when this returns."""
        line = (row.to_json() + "\n").encode()
        handle = os.open(self.folder / "results.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while line:
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        self.rows[row.key] = row

    def forget_errors(self) -> int:
        """Drops the rows with an error, so that their items are tried again; returns how many."""
        kept = {key: row for key, row in self.rows.items() if row.error is None}
        dropped = len(self.rows) - len(kept)
        self._rewrite(list(kept.values()))
        return dropped

    def settle(self, items: Sequence[str]) -> None:
        """Puts the rows in the order of `items`, then of seeds: equal runs leave equal files."""
        place = {item: number for number, item in enumerate(items)}
        self._rewrite(sorted(self.rows.values(), key=lambda row: (place.get(row.item, len(place)), row.item, row.seed)))

    def guesses(self, counters: Mapping[str, Any]) -> None:
        """Writes what speculation did in this start to speculation.json."""
        replace(self.folder / "speculation.json", json.dumps(counters, indent=2) + "\n")

    def journal(self, item: str, seed: int) -> Path:
        """Where the models' answers for one item are kept until it is finished."""
        return self._file("journals", item, seed)

    def drop_journals(self) -> None:
        """Removes the journals of finished items that a killed run left; those of failed items stay."""
        for row in self.rows.values():
            if row.error is None:
                self.journal(*row.key).unlink(missing_ok=True)

    def trace(self, item: str, seed: int) -> Path:
        """Where the events of one item go."""
        return self._file("traces", item, seed)

    def _file(self, kind: str, item: str, seed: int) -> Path:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", item).strip(".")[:80]
        if plain != item:  # two ids may look alike once they are file names
            plain = f"{plain}-{blake2b(item.encode(), digest_size=4).hexdigest()}"
        (self.folder / kind).mkdir(exist_ok=True)
        return self.folder / kind / f"{plain}-seed{seed}.jsonl"

    def _rewrite(self, rows: Sequence[Row]) -> None:
        self.rows = {row.key: row for row in rows}
        path = self.folder / "results.jsonl"
        text = "".join(row.to_json() + "\n" for row in rows)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            replace(path, text)


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """A run folder, made if needed and locked against other writers while open; a torn last line is cut off.

    Raises:
        ConfigError: another process writes there, the path is a file, or a row cannot be read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("out", str(folder), f"the folder cannot be made ({error.strerror})") from None
    strange = not (folder / "run.json").exists() and [p.name for p in folder.iterdir() if p.name != ".lock"]
    if strange:
        raise ConfigError("out", str(folder), f"the folder is not empty and not a run ({strange[0]}); choose another")
    with (folder / ".lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError("out", str(folder), "another process is writing there; wait or choose another") from None
        results = folder / "results.jsonl"
        if results.exists():
            data = results.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(results, len(whole))
        try:
            yield Store(folder, {row.key: row for row in read_rows(folder)})
        finally:
            _tidy(folder)
        # the lock goes with the file handle; its file stays, so that no two processes lock different files


def _tidy(folder: Path) -> None:
    """Takes away what holds nothing: empty folders inside, and the run folder itself if the run never began."""
    for kind in ("journals", "traces"):
        if (folder / kind).is_dir() and not any((folder / kind).iterdir()):
            (folder / kind).rmdir()
    if [path.name for path in folder.iterdir()] == [".lock"]:
        (folder / ".lock").unlink()
        folder.rmdir()
