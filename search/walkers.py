"""Many walkers on one tree: each goes one step on, and those that stand together share one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from search.session import Session
from search.tree import Node
from search.waves import gather


async def advance(
    s: Session, walkers: Sequence[Node], how: Callable[[Node], Mapping[str, Any]] = lambda node: {}
) -> list[Node]:
    """Where each of `walkers` (open nodes) stands after a step of its own, in order.

    A node named k times is drawn from k times, in one call. Walkers that draw the same step stand on the same node:
    nothing is lost by that, since a node is a prefix and a walker a reference to it.
    `how` says how steps after a node are drawn, see `Session.expand`.
    """
    places = Counter(walkers)
    steps = await gather(_draws(s, node, count, how(node)) for node, count in places.items())
    queues = {node: iter(drawn) for node, drawn in zip(places, steps, strict=True)}
    return [next(queues[node]) for node in walkers]


async def _draws(s: Session, node: Node, k: int, how: Mapping[str, Any]) -> list[Node]:
    """`k` next steps after `node`, a child drawn twice named twice; nobody else may be drawing after it."""
    before = {child: child.times for child in node.children}
    children = await s.expand(node, k, **how)
    return list(chain.from_iterable([child] * (child.times - before.get(child, 0)) for child in children))
