"""The best draft tree of a given size when the chance of a guess depends on its rank alone.

Sequoia (Chen et al. 2024, section 3.1): let p_b be how often the b-th guess at a place is right, if the place is
reached. The tree of m guesses that brings most accepted tokens follows from those of its parts: a child takes y of
the m guesses, itself and the best tree of y - 1 below it, and the children after it share the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Shape:
    """A draft tree without tokens.

    Attributes:
        children: per node, parents first, the nodes of its guesses by rank; node 0 is the last drawn token.
        expected: guesses accepted, on average.
    """

    children: tuple[tuple[int, ...], ...]
    expected: float


def optimal(profile: Sequence[float], size: int, depth: int) -> Shape:
    """The best tree of `size` guesses, at most `depth` after one another; `profile` is [p_0, p_1, ...], falling."""

    @cache
    def below(left: int, deep: int) -> float:
        """What `left` guesses bring below a place that is reached."""
        return share(left, deep, 0)[0] if deep else 0.0

    @cache
    def share(left: int, deep: int, rank: int) -> tuple[float, int]:
        """What `left` guesses bring on the children from `rank` on, and how many the first of them takes."""
        best = 0.0, 0
        if rank < len(profile):
            for own in range(1, left + 1):
                value = profile[rank] * (1 + below(own - 1, deep - 1)) + share(left - own, deep, rank + 1)[0]
                best = max(best, (value, own), key=lambda found: found[0])
        return best

    children: list[tuple[int, ...]] = []
    todo = [(size, depth)]  # of the nodes so far, in order
    for left, deep in todo:
        own = []
        for rank in range(len(profile) if deep else 0):
            if not (taken := share(left, deep, rank)[1]):
                break
            own.append(len(todo))
            todo.append((taken - 1, deep - 1))
            left -= taken
        children.append(tuple(own))
    return Shape(tuple(children), below(size, depth))
