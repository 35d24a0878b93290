"""kill -9 of the driver at random points: the resumed run gives what an unbroken one gives, and asks nothing twice.

Asked for is what the models themselves counted, request by request, in a file of their own: nothing that stood in a
journal, and nothing of an item that had a row, was asked again. TREEWISE_FULL=1 kills a hundred times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).resolve().parent / "parts"
FULL = os.environ.get("TREEWISE_FULL") == "1"
SEARCHES = ("flat", "beam", "astar", "mcts", "particles") if FULL else ("beam",)
KILLS = 10 if FULL else 3  # of each search with each kind of pool: a hundred in all
POOLS = {"alone": [], "pooled": ["pool=local", "pool.replicas=2", "pool.verifier.replicas=1"]}


class Run:
    """A run folder that is started, killed and started again."""

    def __init__(self, folder, search, pool):
        self.folder, self.served, self.starts = folder, folder.with_suffix(".served"), 0
        self.arguments = [
            "debug=toy",
            "policy._target_=counting_parts.CountedPolicy",
            "+policy.seconds=0.001",
            "verifier._target_=counting_parts.CountedVerifier",
            f"search={search}",
            "limit=6",
            "concurrency=3",
            "policy.end=0.2",
            "trace=events",
            *pool,
            f"out={folder}",
        ]

    def start(self, kill=None, after=None):
        """The exit status of a start; killed by its own policy (`kill`) or `after` so many seconds."""
        self.starts += 1
        path = os.pathsep.join([str(PARTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "COUNTED": str(self.served), "COUNTED_START": str(self.starts)}
        environment |= {"COUNTED_KILL": f"{kill[0]} {kill[1]}"} if kill else {}
        code = (
            "import os, sys; os.environ['COUNTED_DRIVER'] = str(os.getpid());"
            "from experiments.solve import main; sys.argv[1:] = sys.argv[1:]; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *self.arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if after is not None:
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=300)
        assert process.returncode in (0, -signal.SIGKILL), said.decode()
        return process.returncode

    def lines(self):
        """What was asked: number of the start, kind, key, prompt."""
        if not self.served.exists():
            return []
        return [tuple(line.split(" ", 3)) for line in self.served.read_text().splitlines()]

    def known(self):
        """Keys that stand in a journal, and prompts of items that have a row."""
        keys = set()
        for path in self.folder.glob("journals/*"):
            for line in path.read_bytes().split(b"\n")[:-1]:
                keys.add(json.loads(line).get("key"))
        return keys, {row["item"] for row in self.rows()}

    def rows(self):
        """Whole lines of the results."""
        path = self.folder / "results.jsonl"
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def item(prompt):
    """The id of the item with this prompt."""
    return f"toy-{prompt.split()[-1].rstrip('?.')}"


def killed_at_random(run, whole, rng):
    """Kills `run` until it was killed up to three times, and lets it end; how often it was killed."""
    kills, wanted = 0, rng.choice((1, 2, 3))
    keys, items, repeated = set(), set(), 0
    calls = len(whole.lines())
    while True:
        before = len(run.lines())
        if kills == wanted:
            status = run.start()
        elif rng.random() < 0.75:  # by calls, and a moment later: somewhere in what the driver writes
            status = run.start((rng.randrange(1, max(calls - before, 2)), rng.choice((0, rng.uniform(0, 0.02)))))
        else:
            status = run.start(after=rng.uniform(0, whole.seconds))
        kills += status != 0
        started = str(run.starts)
        mine = [line for line in run.lines() if line[0] == started]
        assert not [line for line in mine if line[2] in keys], "what the journal held was asked again"
        assert not [line for line in mine if item(line[3]) in items], "an item that was done was asked about again"
        assert max(Counter(line[1:3] for line in mine).values(), default=1) == 1, "asked twice in one start"
        if status == 0:
            break
        keys, items = run.known()
    every = Counter(line[1:3] for line in run.lines())
    assert set(every) == {line[1:3] for line in whole.lines()}, "the same questions as those of the unbroken run"
    repeated = sum(every.values()) - len(every)
    return kills, repeated


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("search", SEARCHES)
def test_a_driver_killed_anywhere_gives_the_same_and_asks_nothing_twice(search, pool, tmp_path, without_times):
    whole = Run(tmp_path / "whole", search, [])
    began = time.monotonic()
    assert whole.start() == 0
    whole.seconds = time.monotonic() - began
    assert {item(line[3]) for line in whole.lines()} == {row["item"] for row in whole.rows()}
    expected = without_times(whole.folder)
    rng, kills, lost, number = random.Random(f"{search} {pool}"), 0, 0, 0
    while kills < KILLS:
        run, number = Run(tmp_path / f"killed{number}", search, POOLS[pool]), number + 1
        killed, repeated = killed_at_random(run, whole, rng)
        kills, lost = kills + killed, lost + repeated
        assert without_times(run.folder) == expected
        assert not (run.folder / "journals").exists()
    print(f"{search} {pool}: {kills} kills, {len(whole.lines())} calls a run, {lost} asked again that no journal had")
