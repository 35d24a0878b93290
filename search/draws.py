"""Steps by draw: as many as were asked for, a step drawn twice coming twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from search.session import Session, gather
from search.tree import Node


async def each_draw(s: Session, nodes: Sequence[Node], k: int, **how: Any) -> list[list[Node]]:
    """For each of `nodes` its `k` next steps, one per draw; `how` as in `Session.expand`.

    The tree holds equal steps once; methods whose candidates are draws need them as often as they came. A node that is
    named several times is expanded at one go and its draws are dealt out by `s.rng`, which makes them independent
    samples for each place. No other expansion of these nodes may be in flight.
    """
    places = Counter(nodes)
    before = {child: child.times for node in places for child in node.children}
    grown = await gather(s.expand(node, k * n, **how) for node, n in places.items())
    dealt: dict[Node, Iterator[Node]] = {}
    for node, children in zip(places, grown, strict=True):
        drawn = [child for child in children for _ in range(child.times - before.get(child, 0))]
        if places[node] > 1:
            s.rng.shuffle(drawn)
        dealt[node] = iter(drawn)
    return [list(islice(dealt[node], k)) for node in nodes]
