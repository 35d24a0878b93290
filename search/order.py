"""Commits in the order of calls: what makes a tree independent of which reply comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Order:
    """Awaits calls; each returns only after every one made before it has, so that their effects come in that order."""

    def __init__(self) -> None:
        self._last: asyncio.Event | None = None  # set when the latest call so far has taken effect

    async def __call__(self, call: Awaitable[T]) -> T:
        """The result of `call`, or what it raised."""
        before, mine = self._last, asyncio.Event()
        self._last = mine
        try:
            result = await call
            await asyncio.sleep(0)  # even an instant model lets the other coroutines of a wave make their calls
            return result
        finally:
            try:
                if before:
                    await before.wait()
            finally:
                mine.set()
