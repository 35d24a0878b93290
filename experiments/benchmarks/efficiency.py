"""What a search saves: tokens and verifier passes of A*-decoding over those of best-of-32; accuracies in the notes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.benchmarks.figure import Figure, measured
from experiments.item import Item, cut
from experiments.tasks.reference import Arithmetic, Game24
from policies.embedded import Embedded
from search.algorithms.astar import AStar
from search.algorithms.flat import Flat
from search.budget import Budget
from search.run import Search, run
from search.select import Best
from search.session import Session
from search.steps import Delimiter
from search.types import Cost, Sampling
from verifiers.checked import Checked
from verifiers.prm import PRM

STEP = Sampling(temperature=0.8, max_tokens=128, until=Delimiter())
ITEMS, SEEDS = 100, (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """What is compared on which items; the settings of A* were chosen on other items of the same kind.

    Attributes:
        checked: whether complete answers are judged by the exact checker in place of the PRM.
    """

    name: str
    task: Game24 | Arithmetic
    offset: int
    search: AStar
    checked: bool = False


@dataclass(frozen=True)
class Spent:
    """One search over all items: accuracy, and mean cost per item."""

    accuracy: float
    tokens: float
    passes: float


def cases() -> list[Case]:
    """The hundred hard puzzles where the public list is at hand, else the well-known ones; and arithmetic."""
    hard = 900 if os.environ.get("TREEWISE_DATA") else 0
    narrow = AStar(4, expansions=8, revisit=0.4)
    return [
        Case("game24", Game24(), hard, narrow),
        Case("game24_checked", Game24(), hard, narrow, checked=True),
        Case("arithmetic", Arithmetic(), 0, AStar(3, expansions=20, revisit=0.07)),
    ]


async def spend(search: Search, case: Case, items: Sequence[Item], policy: Embedded, prm: PRM, seed: int) -> Spent:
    """Runs every item at once, each with its own limit of 8,192 generated tokens."""

    async def one(item: Item) -> tuple[bool, Cost]:
        session = Session(
            policy.prompt(case.task.messages(item)), policy, Checked(prm).bind(item) if case.checked else prm,
            Budget({"generated": 8192}), question=item.question, step=STEP, whole=STEP.to_the_end(512), seed=seed,
        )  # fmt: skip
        outcome = await run(search, session, Best(), case.task)
        grade = await case.task.grade(item, outcome.answer.prefix.text if outcome.answer else "")
        return grade.verdict == "right", outcome.spent

    found = await asyncio.gather(*map(one, items))
    right, costs = zip(*found, strict=True)
    return Spent(fmean(right), fmean(c.generated for c in costs), fmean(c.passes for c in costs))


async def compare() -> list[tuple[str, Spent, Spent]]:
    """For each case and seed: what best-of-32 and A* spent."""
    rows = []
    async with Embedded("models/policy", memory="2GB") as policy, PRM("models/prm", memory="2GB") as prm:
        for case in cases():
            items = cut(case.task.items(), ITEMS, case.offset)
            for seed in SEEDS:
                flat = await spend(Flat(32), case, items, policy, prm, seed)
                rows.append((case.name, flat, await spend(case.search, case, items, policy, prm, seed)))
    return rows


def figures() -> Iterator[Figure]:
    """`efficiency.astar_tokens` and `efficiency.astar_passes`, over all cases and seeds, then for each case."""
    rows = asyncio.run(compare())
    names = list(dict.fromkeys(name for name, *_ in rows))
    for name in ["", *names]:
        some = [(flat, star) for case, flat, star in rows if name in ("", case)]
        accuracy = f"accuracy {fmean(s.accuracy for _, s in some):.3f} against {fmean(f.accuracy for f, _ in some):.3f}"
        note = f"A* over best-of-32, {name or ', '.join(names)}, {len(some)} runs of up to {ITEMS} items; {accuracy}"
        tail = f".{name}" if name else ""
        yield measured(f"efficiency.astar_tokens{tail}", "ratio", note, [s.tokens / f.tokens for f, s in some])
        yield measured(f"efficiency.astar_passes{tail}", "ratio", note, [s.passes / f.passes for f, s in some])
