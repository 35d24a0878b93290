"""Open nodes by priority."""

from __future__ import annotations

from bisect import insort

from search.errors import ConfigError
from search.tree import Node


class Frontier:
    """A priority queue of nodes: least key first, equal keys by age.

    Keys are tuples of numbers, compared from left to right: the priority, then the tie-breakers. With a `cap` (at
    least 1; None for none) the node that would come last is dropped when there are more.
    """

    def __init__(self, cap: int | None = None):
        if cap is not None and cap < 1:
            raise ConfigError("cap", cap, "give a number of at least 1, or null for no cap")
        self.cap = cap
        self._entries: list[tuple[tuple[float, ...], int, Node]] = []  # negated and ascending: the next one is last
        self._age = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, node: Node, *key: float) -> Node | None:
        """Adds `node`; the node dropped for it, or None."""
        self._age -= 1
        insort(self._entries, (tuple(-x for x in key), self._age, node))
        return self._entries.pop(0)[-1] if self.cap is not None and len(self) > self.cap else None

    def pop(self) -> Node:
        """Removes and returns the first node; IndexError if there is none."""
        return self._entries.pop()[-1]

    def peek(self) -> Node:
        """The first node, left where it is; IndexError if there is none."""
        return self._entries[-1][-1]

    def clear(self) -> list[Node]:
        """Removes all nodes and returns them, first one first."""
        nodes = [node for *_, node in reversed(self._entries)]
        self._entries.clear()
        return nodes
