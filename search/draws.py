"""Steps by draw: as many as were asked for, a step drawn twice coming twice.

The tree holds equal steps once; methods whose candidates are draws need them as often as they came. No other expansion
of the nodes named may be in flight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from search.session import Session, gather
from search.tree import Node

How = Callable[[Node], Mapping[str, Any]]  # how steps after a node are drawn, as in `Session.expand`


async def each_draw(s: Session, nodes: Sequence[Node], k: int, **how: Any) -> list[list[Node]]:
    """For each of `nodes` its `k` next steps, one per draw.

    A node that is named several times is expanded at one go and its draws are dealt out by `s.rng`, which makes them
    independent samples for each place.
    """
    places = Counter(nodes)
    drawn = await gather(_draws(s, node, k * n, how) for node, n in places.items())
    for steps, count in zip(drawn, places.values(), strict=True):
        if count > 1:
            s.rng.shuffle(steps)
    dealt = {node: iter(steps) for node, steps in zip(places, drawn, strict=True)}
    return [list(islice(dealt[node], k)) for node in nodes]


async def advance(s: Session, walkers: Sequence[Node], how: How = lambda node: {}) -> list[Node]:
    """Where each of `walkers` (open nodes) stands after a step of its own, in order.

    A node named k times is drawn from k times, in one call. Walkers that draw the same step stand on the same node:
    nothing is lost by that, since a node is a prefix and a walker a reference to it.
    """
    places = Counter(walkers)
    drawn = await gather(_draws(s, node, count, how(node)) for node, count in places.items())
    ways = {node: iter(steps) for node, steps in zip(places, drawn, strict=True)}
    return [next(ways[node]) for node in walkers]


async def _draws(s: Session, node: Node, k: int, how: Mapping[str, Any]) -> list[Node]:
    """`k` next steps after `node`, a child drawn twice named twice."""
    before = {child: child.times for child in node.children}
    children = await s.expand(node, k, **how)
    return list(chain.from_iterable([child] * (child.times - before.get(child, 0)) for child in children))
