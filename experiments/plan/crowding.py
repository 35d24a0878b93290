"""How much slower processors are that all compute: they share memory and caches, which no count of seconds tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.item import Task
from experiments.plan.rates import prompts
from search.types import Request, Sampling

PROMPTS, DRAWS, TOKENS, ROUNDS = 8, 8, 32, 20  # of each round


async def crowding(pools: Sequence[Any], task: Task, sampling: Sampling) -> float:
    """By what share a replica's steps take longer while the others work too; 0 if they do not.

    Args:
        pools: of one replica each, as many as there are processors, not entered yet.
    """
    if len(pools) < 2:
        return 0.0
    sampling = replace(sampling, max_tokens=TOKENS)
    async with AsyncExitStack() as stack:
        policies = [await stack.enter_async_context(pool) for pool in pools]

        async def work(chosen: Sequence[Any], number: int) -> Any:
            """Seconds of their steps, and tokens drawn."""
            begun = sum(map(_told, chosen))
            asked = prompts(policies[0], task, range(number * PROMPTS, (number + 1) * PROMPTS))
            requests = [Request(prompt, sampling, tuple(range(DRAWS))) for prompt in asked]
            await asyncio.gather(*(policy.sample(requests) for policy in chosen))
            return sum(map(_told, chosen)) - begun

        await work(policies, 0)  # warms up
        alone, together = np.zeros(2), np.zeros(2)
        for number in range(ROUNDS):  # by turns, each with prompts that no cache holds
            for policy in policies:
                alone += await work([policy], 2 * number + 1)
            together += await work(policies, 2 * number + 2)
    each, beside = alone[0] / alone[1], together[0] / together[1]
    return max(float(beside / each) - 1, 0.0)


def _told(policy: Any) -> Any:
    (told,) = policy.paces()
    return np.array((told["sums"][-1][-1], told["drawn"]))
