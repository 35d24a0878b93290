"""Many walkers on one tree: each goes one step on, and those that stand together share one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

from search.session import Session, gather
from search.tree import Node


async def advance(s: Session, walkers: Sequence[Node]) -> list[Node]:
    """Where each of `walkers` (open nodes) stands after a step of its own, in order.

    A node named k times is drawn from k times, in one call. Walkers that draw the same step stand on the same node:
    nothing is lost by that, since a node is a prefix and a walker a reference to it.
    """
    places = Counter(walkers)
    steps = await gather(draws(s, node, count) for node, count in places.items())
    queues = {node: iter(drawn) for node, drawn in zip(places, steps, strict=True)}
    return [next(queues[node]) for node in walkers]


async def draws(s: Session, node: Node, k: int) -> list[Node]:
    """`k` next steps after `node`: a child drawn twice is named twice. One call at a time may draw after a node."""
    before = {child: child.times for child in node.children}
    children = await s.expand(node, k)
    return list(chain.from_iterable([child] * (child.times - before.get(child, 0)) for child in children))
