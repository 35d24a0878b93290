"""Guesses with a stated rate of success, and what they bring: on the reference policy, and on larger random weights."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.benchmarks.shapes import SHAPES
from experiments.benchmarks.workload import MODEL
from policies.engine.drafters import Context, Guesses
from policies.engine.engine import Engine
from policies.engine.load import language_model
from policies.engine.schedule import Row, Scheduler
from policies.engine.speculate import Speculation
from policies.tiny import checkpoint

RIGHT = 0.8  # of the guesses of `Stated`
MIDDLE: Mapping[str, Any] = {"hidden": 512, "layers": 8, "heads": 8, "shared": 2, "inner": 1408}
NAMES = ("hidden", "layers", "heads", "shared", "inner", "vocabulary", "tied")
HALF_BILLION: Mapping[str, Any] = {**dict(zip(NAMES, SHAPES["0.5B"], strict=True)), "scale": 0.02}


class Stated:
    """A drafter with a stated rate of success: it knows what will be drawn, and says it in `RIGHT` of the cases."""

    name, kinds, wide = "stated", 1, True
    learns: Literal["none", "path", "all"] = "none"

    def __init__(self, known: Sequence[tuple[int, ...]]):
        self._known, self._rng = known, random.Random(0)

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """Whatever runs."""
        self._drawn = {row: int(schedule.count[row.index]) for row in rows}
        return [True] * len(rows)

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """The token that will be drawn, or another."""
        tokens = []
        for row, path in contexts:
            at, line = self._drawn[row] + len(path), self._known[row.call.seeds[row.draw]]
            tokens.append([line[at] if at < len(line) and self._rng.random() < RIGHT else 5])
        return Guesses(np.array(tokens), np.zeros((len(tokens), 1)), np.zeros(len(tokens), np.int64))

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """It has nothing to learn."""

    def forget(self) -> None:
        """Nothing is kept by row."""


def stated(rows: int, shape: Mapping[str, Any] | None, tokens: int, repeats: int) -> list[float]:
    """Gains by guesses that are right in `RIGHT` of the cases and cost next to nothing.

    On the reference policy, or on random weights of a `shape`: of a size at which a forward costs more than the Python
    around it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(MODEL) if shape is None else checkpoint(Path(folder), **shape)
        model = language_model(source, "float32", "cpu")

    async def draw(speculation: Speculation | None) -> tuple[float, list[tuple[int, ...]]]:
        engine = Engine(model, 64 << 20, speculation=speculation)
        engine.start()
        try:
            await engine.sample(tuple(range(10, 40)), tuple(range(rows)), limit=2)
            began = time.process_time()
            drawn = await engine.sample(tuple(range(10, 40)), tuple(range(rows)), limit=tokens)
            return time.process_time() - began, [draw.tokens for draw in drawn.draws]
        finally:
            await asyncio.to_thread(engine.close)

    gains = []
    for _ in range(repeats):
        seconds, plain = asyncio.run(draw(None))
        took, same = asyncio.run(draw(Speculation([Stated(plain)], clock=time.thread_time)))
        if same != plain:
            raise RuntimeError("speculation changed a draw")
        gains.append(seconds / took)
    return gains
