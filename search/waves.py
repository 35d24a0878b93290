"""Parallelism inside one search: calls made together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from search.errors import BudgetExhausted

T = TypeVar("T")


async def gather(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Awaits all; results in order.

    What is in flight is paid for, so errors are raised only after all calls have ended: the first that is a fault,
    else the first `BudgetExhausted`.

    Parallelism goes by waves: choose nodes, gather one call each, go on. Coroutines that run freely side by side and
    gather in between make their next calls in an order that depends on replies, and then the tree does too.
    """
    done = await asyncio.gather(*calls, return_exceptions=True)
    errors = [result for result in done if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if not isinstance(error, BudgetExhausted)), errors[0])
    return [result for result in done if not isinstance(result, BaseException)]
