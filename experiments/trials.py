"""Searches over many items on the reference models: what they got right and what they spent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.item import Item, Task
from search.budget import Budget
from search.ports import Binds, Policy, Renders, Verifier, ability
from search.run import Search, run
from search.select import Best, Selector
from search.session import Session
from search.steps import Delimiter
from search.types import Cost, Sampling

STEP = Sampling(temperature=0.8, max_tokens=128, until=Delimiter())
WHOLE = STEP.to_the_end(512)


@dataclass(frozen=True)
class Trial:
    """One search over all items: accuracy, mean cost per item, and the cost of each item."""

    accuracy: float
    tokens: float
    passes: float
    costs: tuple[Cost, ...]


async def trial(
    search: Search, task: Task, items: Sequence[Item], policy: Policy, verifier: Verifier | Binds | None, seed: int, *,
    select: Selector | None = None, limits: Sequence[float] | float = 8192, strict: bool = False,
) -> Trial:  # fmt: skip
    """Runs every item at once, each with its own limit of generated tokens (one for all, or one for each)."""
    renders = ability(policy, Renders)
    each = [limits] * len(items) if isinstance(limits, int | float) else list(limits)

    async def one(item: Item, limit: float) -> tuple[bool, Cost]:
        judge = verifier.bind(item) if isinstance(verifier, Binds) else verifier
        session = Session(
            renders.prompt(task.messages(item)), policy, judge, Budget({"generated": limit}, strict=strict),
            question=item.question, step=STEP, whole=WHOLE, seed=seed,
        )  # fmt: skip
        outcome = await run(search, session, select or Best(), task)
        grade = await task.grade(item, outcome.answer.prefix.text if outcome.answer else "")
        return grade.verdict == "right", outcome.spent

    found = await asyncio.gather(*(one(item, limit) for item, limit in zip(items, each, strict=True)))
    right, costs = zip(*found, strict=True)
    return Trial(fmean(right), fmean(c.generated for c in costs), fmean(c.passes for c in costs), costs)
