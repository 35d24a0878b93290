"""What an engine's steps took is counted by what was in them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.pace import CAUSES, Did, Pace
from policies.tiny import checkpoint


def test_steps_rows_tokens_and_calls_are_those_of_the_tallies(tmp_path):
    model = load.language_model(Path(checkpoint(tmp_path, hidden=32, heads=1)), "float32", "cpu")
    engine = Engine(model, 8 << 20, threads=1)
    engine.start()

    async def ask():
        calls = [engine.sample((5, 6, 7, 8 + i), range(10 * i, 10 * i + 3), limit=9) for i in range(4)]
        return [*await asyncio.gather(*calls), await engine.read((9, 8, 7, 6, 5), 2)]

    try:
        *drawn, read = asyncio.run(ask())
    finally:
        engine.close()
    told = engine.pace.told()
    totals = dict(zip((*CAUSES, "seconds"), (row[-1] for row in told["sums"]), strict=True))
    tallies = [answer.tally for answer in (*drawn, read)]
    assert totals["rows"] == told["drawn"] == sum(tally.generated for tally in tallies)
    assert totals["read"] == sum(tally.prefilled for tally in tallies)
    assert totals["calls"] == 5
    assert totals["steps"] >= 9
    assert told["alone"] and told["process"] == os.getpid()
    assert 0 < totals["seconds"] <= told["processor"]


def test_sums_are_those_of_products_over_seconds():
    pace = Pace("cpu", 1)
    pace.observe(Did(3, 5, 7, 1), 0.5)
    pace.observe(Did(1, 1, 0, 0), 0.25)
    told = pace.told()
    assert told["sums"][4] == [2, 4, 7, 1, 0.75] and told["drawn"] == 6
    assert told["sums"][1] == [3 / 0.5 + 1 / 0.25, 9 / 0.5 + 1 / 0.25, 21 / 0.5, 3 / 0.5, 4]


@pytest.mark.parametrize(("device", "threads", "alone"), [("cpu", 1, True), ("cpu", 2, False), ("cuda", 1, False)])
def test_seconds_are_of_a_processor_where_the_thread_computes_alone(device, threads, alone):
    assert Pace(device, threads).told()["alone"] is alone
