"""What speculation brings: searches of few rows and of one, and what it costs at 64, with it over without it.

Both sides run in this process, in turn, with one thread, over the same problems with the same seeds; they draw the same
tokens, which is checked. What is compared is processor time of the whole process, which is the wall time of an idle
core: other work on the machine hardly touches it. The ratio of the wall times is in the note. Only what overlaps, a
policy that draws while a verifier reads, is compared by wall time. TREEWISE_FULL=1 adds the shape of a 0.5B model.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from experiments.benchmarks.engine import MODEL, STEP, Hashed, one_thread, prompts
from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.stated import HALF_BILLION, MIDDLE, RIGHT, stated
from policies.embedded import Embedded
from policies.engine.engine import Engine
from policies.engine.pace import Did
from policies.engine.speculate import Speculation
from policies.speculation import Wanted
from search.algorithms.beam import Beam
from search.session import Session
from search.types import Prefix, Request, Sampling, Segment
from search.waves import gather
from verifiers.ahead import Ahead
from verifiers.prm import PRM

DRAFT, REPEATS = "models/draft", 5
BEAM = Beam(beams=2, width=4, depth=6)  # eight rows at most
ONE = Sampling(temperature=0.8, max_tokens=96)
Work = Callable[[Embedded, Sequence[Segment]], Awaitable[object]]


@dataclass(frozen=True)
class Pair:
    """One repeat: processor and wall seconds without and with speculation."""

    plain: tuple[float, float]
    guessed: tuple[float, float]
    per_pass: float | None  # tokens per row and forward that had guesses; None if none had

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


async def compare(work: Work, count: int, speculate: Wanted) -> tuple[list[Pair], Speculation]:
    """`REPEATS` pairs, each over `count` new problems, after one that warms both; and the counters.

    Raises:
        RuntimeError: the two sides drew different tokens.
    """
    pairs = []
    async with (
        Embedded(MODEL, memory="256MB", threads=1) as plain,
        Embedded(MODEL, memory="256MB", threads=1, speculate=speculate, draft=DRAFT) as guessing,
    ):
        assert guessing.engine.speculation is not None
        counters = guessing.engine.speculation.counters
        for repeat in range(REPEATS + 1):
            some = prompts(plain, count * repeat, count)
            first, drawn = await timed(work, plain, some)
            tokens, passes = counters.tokens, counters.drafted_passes
            second, same = await timed(work, guessing, some)
            if drawn != same:
                raise RuntimeError("speculation changed a draw")
            with_guesses = counters.drafted_passes - passes
            per_pass = (counters.tokens - tokens) / with_guesses if with_guesses else None
            pairs.append(Pair(first, second, per_pass))
        return pairs[1:], guessing.engine.speculation


@contextmanager
def taking_turns(*engines: Engine) -> Iterator[None]:
    """One forward at a time, whoever's it is."""
    lock = threading.Lock()

    def alone(step: Callable[[], Did]) -> Callable[[], Did]:
        def locked() -> Did:
            with lock:
                return step()

        return locked

    with ExitStack() as stack:
        for engine in engines:
            worker: Any = engine._worker
            worker.step = alone(worker.step)
            stack.callback(delattr, worker, "step")
        yield


async def judged(policy: Embedded, prm: PRM, problems: Sequence[Segment], ahead: bool, at_once: bool) -> object:
    """A beam search per problem with a PRM, all at once or one after the other; the tokens of all nodes."""

    async def one(prompt: Segment) -> list[tuple[int, ...]]:
        both = Ahead(policy, prm)
        sides: tuple[Any, Any] = (both.policy, both.verifier) if ahead else (policy, prm)
        session = Session(prompt, *sides, step=STEP, whole=STEP.to_the_end(96))
        await BEAM(session)
        await both.aclose()
        return [node.segment.tokens for node in session.tree]

    return await gather(map(one, problems)) if at_once else [await one(prompt) for prompt in problems]


async def overlap() -> Iterator[Figure]:
    """What it brings that a verifier reads while the policy goes on: across searches, and within one."""
    gains: dict[str, list[float]] = {"": [], ".one_search": []}
    settings: dict[str, Any] = {"memory": "256MB", "threads": 1}
    async with Embedded(MODEL, **settings) as policy, PRM("models/prm", **settings) as prm:

        async def seconds(some: Sequence[Segment], ahead: bool, at_once: bool) -> tuple[float, object]:
            prm._forget()
            for engine in (policy.engine, prm.engine):
                engine._post(engine.kv.clear)  # nobody starts with what another has computed
            began = time.perf_counter()
            found = await judged(policy, prm, some, ahead, at_once)
            return time.perf_counter() - began, found

        for repeat in range(REPEATS + 1):
            some = prompts(policy, 8 * repeat, 8)
            with taking_turns(policy.engine, prm.engine):
                turns, expected = await seconds(some, ahead=False, at_once=True)
            beside, found = await seconds(some, ahead=False, at_once=True)
            waiting, again = await seconds(some, ahead=False, at_once=False)
            early, last = await seconds(some, ahead=True, at_once=False)
            if not expected == found == again == last:
                raise RuntimeError("the order of readings changed a draw")
            gains[""].append(turns / beside)
            gains[".one_search"].append(waiting / early)
    what = f"wall time of beam search {BEAM.beams} x {BEAM.width} with the PRM, a thread per engine, {REPEATS} repeats"
    notes = {
        "": f"{what}, 8 problems at once: engines that take turns over engines side by side",
        ".one_search": f"{what}, a problem at a time: scores begun when they are asked for over begun when drawn",
    }
    return iter(measured(f"speculation.scoring_overlap{k}", "ratio", notes[k], v[1:]) for k, v in gains.items())


def _note(what: str, pairs: Sequence[Pair], by: str) -> str:
    wall = median(pair.wall for pair in pairs)
    return f"processor time without over with {by}, {what}, {REPEATS} repeats; by wall time {wall:.2f}"


WAYS: tuple[tuple[Wanted, str, str], ...] = (
    ("draft", "", "a draft model"),
    ("ngram", ".ngram", "n-grams"),
    ({"by": "draft", "length": "bandit"}, ".bandit", "a draft model, depths by a bandit"),
)


def figures() -> Iterator[Figure]:
    """`speculation.speedup_8_rows`, `.speedup_1_row`, `.slowdown_64_rows`, `.tokens_per_pass`; n-grams, a bandit apart.

    `speculation.scoring_overlap`, and speed-ups on larger random weights with a stated rate of right guesses.
    """
    with one_thread():
        for speculate, tail, by in WAYS:
            pairs, speculation = asyncio.run(compare(beam, 16, speculate))
            note = _note(f"beam search {BEAM.beams} x {BEAM.width}, a problem at a time", pairs, by)
            yield measured(f"speculation.speedup_8_rows{tail}", "ratio", note, [pair.gain for pair in pairs])
            told = speculation.counters
            rates = ", ".join(f"{hit / max(tries, 1):.2f}" for tries, hit in told.by_depth[:6])
            shares = ", ".join(f"{told.accepted[name]:,} of {told.drafted[name]:,} by {name}" for name in told.drafted)
            note = f"tokens per row and forward with guesses, {told.drafted_passes:,} of {told.passes:,}, same search"
            note += f"; right: {shares}; by depth {rates}"
            values = [pair.per_pass for pair in pairs if pair.per_pass is not None]
            yield measured(f"speculation.tokens_per_pass{tail}", "tokens", note, values or [1.0])
            pairs, _ = asyncio.run(compare(single, 16, speculate))
            note = _note("one answer at a time", pairs, by)
            yield measured(f"speculation.speedup_1_row{tail}", "ratio", note, [pair.gain for pair in pairs])
            pairs, _ = asyncio.run(compare(together, 64, speculate))
            note = _note("64 rows of 64 tokens", pairs, by).replace("without over with", "with over without")
            yield measured(f"speculation.slowdown_64_rows{tail}", "ratio", note, [1 / pair.gain for pair in pairs])
        yield from asyncio.run(overlap())
        shapes: list[tuple[Mapping[str, Any] | None, str, str, int, int]] = [
            (None, "stated", "the reference policy", 300, REPEATS),
            (MIDDLE, "large", "random weights, 8 layers of width 512", 128, REPEATS),
        ]
        if os.environ.get("TREEWISE_FULL") == "1":
            shapes.append((HALF_BILLION, "half_billion", "random weights in the shape of a 0.5B model", 96, 2))
        for shape, tail, words, tokens, repeats in shapes:
            for rows, name in ((8, "8_rows"), (1, "1_row")):
                note = f"processor time without over with guesses right {RIGHT:.0%} of the time, {rows} rows"
                note += f" of {tokens} tokens; {words}"
                gains = stated(rows, shape, tokens, repeats)
                yield measured(f"speculation.speedup_{name}.{tail}", "ratio", note, gains)
