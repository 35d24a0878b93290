"""Calls that wait: a line per owner, first come, first served in each; the owners take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """What waits: `owner` says whose it is, `over` that nobody waits for it any more."""

    @property
    def owner(self) -> Hashable: ...

    @property
    def over(self) -> bool: ...


W = TypeVar("W", bound=Waiter)


class Turns(Generic[W]):
    """Round robin over owners, so that who asks for little is not behind all that another asked for before."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[W]] = {}  # in the order of their next turns; none of them empty

    def __bool__(self) -> bool:
        return bool(self._lines)

    def extend(self, waiters: Iterable[W]) -> None:
        """New ones, each at the end of its owner's line; a new owner's turn comes after all others'."""
        for waiter in waiters:
            self._lines.setdefault(waiter.owner, deque()).append(waiter)

    def head(self) -> W | None:
        """Whose turn it is; None if nobody waits. Forgets those that are over (mutates)."""
        while self._lines:
            owner, line = next(iter(self._lines.items()))
            while line and line[0].over:
                line.popleft()
            if line:
                return line[0]
            del self._lines[owner]
        return None

    def served(self, wholly: bool) -> None:
        """The head had its turn: its owner is next after all others; it leaves if it was served `wholly` (mutates)."""
        owner, line = next(iter(self._lines.items()))
        if wholly:
            line.popleft()
        del self._lines[owner]
        if line:
            self._lines[owner] = line
