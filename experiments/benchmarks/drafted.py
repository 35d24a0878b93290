"""What draft replicas beside target replicas bring: forwards saved, and time, with the models that ship here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.pool import seconds, together
from experiments.item import cut
from experiments.tasks.reference import Arithmetic
from policies.embedded import Embedded
from policies.pool.drafted import DraftedPolicy
from policies.pool.local import Local
from search.types import Prefix, Request, Sampling

ROWS, TOKENS, REPEATS = 8, 96, 10
TARGET = partial(Embedded, "models/policy", memory="256MB", threads=1, speculate="told")
DRAFT = partial(Embedded, "models/draft", memory="256MB", threads=1)


def front(workers: str) -> DraftedPolicy:
    """One target replica and one draft replica."""
    hosting = Local(workers=workers, replicas=1)
    return DraftedPolicy(hosting, TARGET, hosting.policy(DRAFT))


def requests(prompts: list[Prefix], seed: int) -> list[Request]:
    """A draw after each prompt."""
    return [Request(prompt, Sampling(0.8, max_tokens=TOKENS), (seed,)) for prompt in prompts]


async def prompts() -> list[Prefix]:
    """Arithmetic problems."""
    async with TARGET() as policy:
        return [Prefix(policy.prompt(Arithmetic().messages(item))) for item in cut(Arithmetic().items(), ROWS)]


async def forwards() -> list[float]:
    """Tokens per forward of a row, every request drafted."""
    asked, found = await prompts(), []
    async with front("inline") as policy:
        policy.choice.forced = True
        engine = policy.pool._slots[0].replica._work._part.engine  # type: ignore[attr-defined]
        engine.speculation.governor.forced = True
        for seed in range(REPEATS):
            before = engine.speculation.counters.passes
            replies = await asyncio.gather(*(policy.sample([request]) for request in requests(asked, seed)))
            generated = sum(reply.cost.generated for (reply,) in replies)
            found.append(generated / (engine.speculation.counters.passes - before))
    return found


async def times() -> tuple[list[float], list[float]]:
    """Time without drafts over time with them: on every request, and where they are chosen."""
    asked = await prompts()
    ratios: dict[bool | None, list[float]] = {True: [], None: []}
    async with front("process") as policy:
        for seed in range(REPEATS + 1):
            took: dict[bool | None, float] = {}
            for way in (False, True, None) if seed % 2 else (None, True, False):
                policy.choice.forced = way
                took[way] = await seconds(partial(together, policy, requests(asked, seed)))
            for way, found in ratios.items():
                found.append(took[False] / took[way])
    return ratios[True][1:], ratios[None][1:]  # the first round warms


def figures() -> Iterator[Figure]:
    """`drafted.tokens_per_forward`, `drafted.speedup_forced`, `drafted.speedup`."""
    note = f"{ROWS} draws of up to {TOKENS} tokens, one target replica and one draft replica"
    yield measured("drafted.tokens_per_forward", "ratio", note, asyncio.run(forwards()))
    always, chosen = asyncio.run(times())
    yield measured("drafted.speedup_forced", "ratio", f"{note}: time without over with", always)
    yield measured("drafted.speedup", "ratio", "the same where the pool chooses", chosen)
