"""Whatever kills a run, the same command gives what an unbroken run gives: the same bytes, times apart."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.parts import Parts
from experiments.runner import Runner
from experiments.store import Store, opened
from policies.toy import Toy
from verifiers.toy import Hidden

ROOT = Path(__file__).resolve().parents[2]
SEARCHES = ("flat", "beam", "astar")
KILLS = 200


class Killed(BaseException):
    """What no program may catch and go on from."""


@dataclass
class Fuse:
    """Burns one unit per call and kills at its end."""

    left: float

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@dataclass(frozen=True)
class Policy(Toy):
    """The toy, which yields to other tasks and may die before or after it answers."""

    fuse: Fuse | None = None

    @property
    def fingerprint(self) -> str:
        return "toy"

    async def sample(self, requests):
        await asyncio.sleep(0)
        self.fuse.burn()
        replies = await super().sample(requests)
        await asyncio.sleep(0)
        self.fuse.burn()
        return replies


@dataclass(frozen=True)
class Verifier(Hidden):
    """The same for the verifier."""

    fuse: Fuse | None = None

    @property
    def fingerprint(self) -> str:
        return "hidden"

    async def score(self, prefixes):
        self.fuse.burn()
        await asyncio.sleep(0)
        return await super().score(prefixes)


class Display:
    """Takes events and rows in silence; may die at each."""

    def __init__(self, fuse: Fuse):
        self.fuse = fuse

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __call__(self, event):
        self.fuse.burn()

    def finished(self, row):
        self.fuse.burn()


def attempt(folder: Path, parts: Parts, fuse: Fuse) -> None:
    """One start of the run, which may be killed at any point."""
    parts = replace(
        parts, policy=Policy(length=4, end=0.2, fuse=fuse), verifier=Verifier(word="abcab", fuse=fuse), seeds=(0, 1)
    )
    items = parts.task.items()
    with opened(folder) as store:
        append = store.append

        def appended(row):
            append(row)
            fuse.burn()

        store.append = appended
        begin = {"configuration": {}, "fingerprints": {}}
        runner = Runner(
            parts, store, items, [i.id for i in items], "toy", 3, lambda prints: store.begin({**begin, **prints})
        )
        asyncio.run(runner(Display(fuse)))


def tear(folder: Path, rng: random.Random) -> None:
    """What a machine that dies may do besides: the last line of a file is only half there."""
    files = [p for p in (folder / "results.jsonl", *folder.glob("journals/*")) if p.exists() and p.stat().st_size]
    if files and rng.random() < 0.8:
        path = rng.choice(sorted(files))
        data = path.read_bytes()
        last = len(data) - (data.rfind(b"\n", 0, len(data) - 1) + 1)
        # rows are on the disk before their journal goes; only what was being written may be torn
        if path.name != "results.jsonl":
            os.truncate(path, len(data) - rng.randrange(last))
        else:
            path.write_bytes(data + b'{"item": "toy-')


@pytest.mark.parametrize("search", SEARCHES)
def test_killed_anywhere_and_resumed_is_never_killed(search, tmp_path, monkeypatch, settings, without_times):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # no plug is pulled here
    parts = Parts.of(settings("debug=toy", f"search={search}", "task.count=3", "trace=events"))
    whole = Fuse(float("inf"))
    attempt(tmp_path / "whole", parts, whole)
    counted = Fuse(10**6)
    attempt(tmp_path / "counted", parts, counted)
    points = 10**6 - int(counted.left)
    expected = without_times(tmp_path / "whole")
    rng, kills = random.Random(search), 0
    while kills < -(-KILLS // len(SEARCHES)):
        folder = tmp_path / f"killed-{kills}"
        for _ in range(rng.choice((1, 2, 3))):
            try:
                attempt(folder, parts, Fuse(rng.randrange(points)))
            except Killed:
                kills += 1
                tear(folder, rng)
        attempt(folder, parts, Fuse(float("inf")))
        assert without_times(folder) == expected
        assert not (folder / "journals").exists()
        assert len(list((folder / "traces").iterdir())) == 6


def test_a_resumed_run_asks_for_nothing_twice(tmp_path, settings):
    """Tokens drawn by a killed run and its successor add up to those of an unbroken one."""
    drawn = []

    @dataclass(frozen=True)
    class Counting(Policy):
        async def sample(self, requests):
            replies = await super().sample(requests)
            drawn.append(sum(reply.cost.generated for reply in replies))
            return replies

    parts = Parts.of(settings("debug=toy", "search=beam", "task.count=1"))

    def start(fuse: Fuse) -> int:
        drawn.clear()
        built = replace(parts, policy=Counting(length=4, fuse=fuse), verifier=Verifier(word="abcab", fuse=Fuse(10**9)))
        with opened(tmp_path / f"run{fuse.left > 10**6}" if whole else tmp_path / "run") as store:
            runner = Runner(built, store, parts.task.items(), ["toy-1"], "toy", 1, lambda prints: None)
            store.begin({"configuration": {}, "fingerprints": {}})
            try:
                asyncio.run(runner(Display(Fuse(10**9))))
            except Killed:
                return sum(drawn)
            return sum(drawn)

    whole = True
    unbroken = start(Fuse(10**9))
    whole = False
    assert start(Fuse(9)) + start(Fuse(10**9)) == unbroken


SLOW = """
import asyncio
from dataclasses import dataclass
from policies.toy import Toy

@dataclass(frozen=True)
class Slow(Toy):
    async def sample(self, requests):
        await asyncio.sleep(0.01)
        return await super().sample(requests)
"""


def heeding():
    """Runs in the new process: it heeds an interrupt even where the tests themselves were started without one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_process_killed_from_outside_is_resumed(by, tmp_path, capsys, monkeypatch, solve, without_times):
    (tmp_path / "slowtoy.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["policy._target_=slowtoy.Slow", "search=beam", "limit=6", "concurrency=2"]
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.solve", "debug=toy", *arguments, f"out={out}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeding,
    )
    deadline = time.monotonic() + 60
    while not ((out / "results.jsonl").exists() and (out / "results.jsonl").stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(by)
    _, err = process.communicate(timeout=60)
    done = len(without_times(out))
    assert 1 <= done < 6, "it was killed in the middle"
    if by is signal.SIGINT:
        assert process.returncode == 1
        assert f"interrupted: {done} of 6" in err and f"out={out}" in err and "Traceback" not in err
    assert solve(*arguments, f"out={out}") == 0
    assert solve(*arguments, f"out={tmp_path / 'whole'}") == 0
    assert without_times(out) == without_times(tmp_path / "whole")


def test_a_store_takes_a_row_only_once_it_is_whole(tmp_path, settings):
    """The order of things at the end of an item: first the row, then the journal goes."""
    order = []

    class Watched(Store):
        def append(self, row):
            order.append((row.item, self.journal(row.item, row.seed).exists()))
            super().append(row)

    parts = Parts.of(settings("debug=toy", "search=flat", "task.count=2", "trace=none"))
    with opened(tmp_path / "run") as store:
        watched = Watched(store.folder)
        items = parts.task.items()
        runner = Runner(
            parts,
            watched,
            items,
            [i.id for i in items],
            "toy",
            1,
            lambda prints: watched.begin({"configuration": {}, "fingerprints": {}}),
        )
        asyncio.run(runner(Display(Fuse(10**9))))
    assert order == [("toy-1", True), ("toy-2", True)]
    assert not (tmp_path / "run" / "journals").exists()
