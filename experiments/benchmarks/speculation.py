"""What speculation brings: searches of few rows and of one, and what it costs at 64, with it over without it.

Both sides run in this process, in turn, with one thread, over the same problems with the same seeds; they draw the same
tokens, which is checked. What is compared is processor time of the whole process, which is the wall time of an idle
core: other work on the machine hardly touches it. The ratio of the wall times is in the note.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np

from experiments.benchmarks.engine import MODEL, STEP, Hashed, one_thread, prompts
from experiments.benchmarks.figure import Figure, measured
from policies.embedded import Embedded
from policies.engine.drafters import Context, Guesses
from policies.engine.engine import Engine
from policies.engine.load import language_model
from policies.engine.schedule import Row, Scheduler
from policies.engine.speculate import Speculation
from policies.tiny import checkpoint
from search.algorithms.beam import Beam
from search.session import Session
from search.types import Prefix, Request, Sampling, Segment

DRAFT, REPEATS = "models/draft", 5
BEAM = Beam(beams=2, width=4, depth=6)  # eight rows at most
ONE = Sampling(temperature=0.8, max_tokens=96)
RIGHT = 0.8  # of the guesses of `Stated`
Work = Callable[[Embedded, Sequence[Segment]], Awaitable[object]]


@dataclass(frozen=True)
class Pair:
    """One repeat: processor and wall seconds without and with speculation."""

    plain: tuple[float, float]
    guessed: tuple[float, float]

    @property
    def gain(self) -> float:
        """By processor time."""
        return self.plain[0] / self.guessed[0]

    @property
    def wall(self) -> float:
        """By wall time."""
        return self.plain[1] / self.guessed[1]


async def beam(policy: Embedded, problems: Sequence[Segment]) -> list[list[tuple[int, ...]]]:
    """A beam search per problem, one after the other; the tokens of all nodes."""
    trees = []
    for prompt in problems:
        session = Session(prompt, policy, Hashed(), step=STEP, whole=STEP.to_the_end(96))
        await BEAM(session)
        trees.append([node.segment.tokens for node in session.tree])
    return trees


async def single(policy: Embedded, problems: Sequence[Segment]) -> list[tuple[int, ...]]:
    """An answer per problem, one after the other."""
    replies = [await policy.sample([Request(Prefix(prompt), ONE, (7,))]) for prompt in problems]
    return [reply[0].segments[0].tokens for reply in replies]


async def together(policy: Embedded, problems: Sequence[Segment]) -> list[tuple[int, ...]]:
    """64 tokens after each prompt, all at once, ends ignored."""
    calls = [policy.engine.sample(p.tokens, (i,), temperature=0.8, limit=64) for i, p in enumerate(problems)]
    return [drawn.draws[0].tokens for drawn in await asyncio.gather(*calls)]


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


def large(rows: int) -> tuple[list[float], str]:
    """Gains on random weights of a size at which a forward costs more than the Python around it, and its shape."""
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(Path(folder), hidden=512, layers=8, heads=8, shared=2, inner=1408)
        model = language_model(path, "float32", "cpu")

    async def draw(speculation: Speculation | None) -> tuple[float, list[tuple[int, ...]]]:
        engine = Engine(model, 64 << 20, speculation=speculation)
        engine.start()
        try:
            await engine.sample(tuple(range(10, 40)), tuple(range(rows)), limit=2)
            began = time.process_time()
            drawn = await engine.sample(tuple(range(10, 40)), tuple(range(rows)), limit=128)
            return time.process_time() - began, [draw.tokens for draw in drawn.draws]
        finally:
            await asyncio.to_thread(engine.close)

    gains = []
    for _ in range(REPEATS):
        seconds, plain = asyncio.run(draw(None))
        took, same = asyncio.run(draw(Speculation([Stated(plain)], clock=time.thread_time)))
        if same != plain:
            raise RuntimeError("speculation changed a draw")
        gains.append(seconds / took)
    return gains, "random weights, 8 layers of width 512"


async def timed(work: Work, policy: Embedded, problems: Sequence[Segment]) -> tuple[tuple[float, float], object]:
    """Processor and wall seconds of `work`, and what it drew."""
    processor, wall = time.process_time(), time.perf_counter()
    drawn = await work(policy, problems)
    return (time.process_time() - processor, time.perf_counter() - wall), drawn


async def compare(work: Work, count: int, drafters: str | Sequence[str]) -> tuple[list[Pair], Speculation]:
    """`REPEATS` pairs, each over `count` new problems, after one that warms both; and the counters.

    Raises:
        RuntimeError: the two sides drew different tokens.
    """
    pairs = []
    async with (
        Embedded(MODEL, memory="256MB", threads=1) as plain,
        Embedded(MODEL, memory="256MB", threads=1, speculate=drafters, draft=DRAFT) as guessing,
    ):
        for repeat in range(REPEATS + 1):
            some = prompts(plain, count * repeat, count)
            first, drawn = await timed(work, plain, some)
            second, same = await timed(work, guessing, some)
            if drawn != same:
                raise RuntimeError("speculation changed a draw")
            pairs.append(Pair(first, second))
        assert guessing.engine.speculation is not None
        return pairs[1:], guessing.engine.speculation


def _note(what: str, pairs: Sequence[Pair]) -> str:
    wall = median(pair.wall for pair in pairs)
    return f"processor time without over with a draft model, {what}, {REPEATS} repeats; by wall time {wall:.2f}"


def figures() -> Iterator[Figure]:
    """`speculation.speedup_8_rows`, `.speedup_1_row`, `.slowdown_64_rows` and `.tokens_per_pass`; n-grams apart."""
    with one_thread():
        for drafter, tail in (("draft", ""), ("ngram", ".ngram")):
            pairs, speculation = asyncio.run(compare(beam, 16, drafter))
            note = _note(f"beam search {BEAM.beams} x {BEAM.width}, a problem at a time", pairs)
            note = note.replace("a draft model", "n-grams") if tail else note
            yield measured(f"speculation.speedup_8_rows{tail}", "ratio", note, [pair.gain for pair in pairs])
            told = speculation.counters
            rates = ", ".join(f"{hit / max(tries, 1):.2f}" for tries, hit in told.by_depth[:6])
            shares = ", ".join(f"{told.accepted[name]:,} of {told.drafted[name]:,} by {name}" for name in told.drafted)
            value = told.tokens / max(told.drafted_passes, 1)
            note = (
                f"tokens per row and forward that had guesses ({told.drafted_passes:,} of {told.passes:,}), same search"
            )
            note += f"; right: {shares}; by depth {rates}"
            yield measured(f"speculation.tokens_per_pass{tail}", "tokens", note, [value])
        pairs, _ = asyncio.run(compare(single, 16, "draft"))
        note = _note("one answer at a time", pairs)
        yield measured("speculation.speedup_1_row", "ratio", note, [pair.gain for pair in pairs])
        pairs, _ = asyncio.run(compare(together, 64, "draft"))
        note = _note("64 rows of 64 tokens", pairs).replace("without over with", "with over without")
        yield measured("speculation.slowdown_64_rows", "ratio", note, [1 / pair.gain for pair in pairs])
        for rows, name in ((8, "8_rows"), (1, "1_row")):
            gains, shape = large(rows)
            note = f"processor time without over with guesses right {RIGHT:.0%} of the time, {rows} rows; {shape}"
            yield measured(f"speculation.speedup_{name}.large", "ratio", note, gains)
