"""What speculation brings: searches of few rows and of one, and what it costs at 64, with it over without it.

Both sides run in this process, in turn, with one thread, over the same problems with the same seeds; they draw the same
tokens, which is checked. What is compared is processor time of the whole process, which is the wall time of an idle
core: other work on the machine hardly touches it. The ratio of the wall times is in the note.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from experiments.benchmarks.engine import MODEL, STEP, Hashed, one_thread, prompts
from experiments.benchmarks.figure import Figure, measured
from policies.embedded import Embedded
from policies.engine.speculate import Speculation
from search.algorithms.beam import Beam
from search.session import Session
from search.types import Prefix, Request, Sampling, Segment

DRAFT, REPEATS = "models/draft", 5
BEAM = Beam(beams=2, width=4, depth=6)  # eight rows at most
ONE = Sampling(temperature=0.8, max_tokens=96)
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
