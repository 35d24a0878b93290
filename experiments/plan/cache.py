"""What a simulated replica has of the problems' prefixes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from experiments.plan.script import Script


@dataclass(slots=True)
class _Kept:
    """Of one problem: nodes that are there, and nodes whose drawn children are there too."""

    tokens: float = 0.0
    nodes: set[int] = field(default_factory=set)
    grown: set[int] = field(default_factory=set)


class Cache:
    """Prefixes by content, the least recently used problem forgotten first.

    Args:
        room: tokens; None for as many as come.
        keeps: share of what would be there without any limit that is found, in [0, 1]: for caches that forget parts.
    """

    def __init__(self, room: float | None, keeps: float):
        self._room, self._keeps = room, keeps
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._tokens = 0.0

    def read(self, script: Script, node: int, drawn: float) -> float:
        """Tokens of the prefix of `node` that must be computed; it is there from now on, with `drawn` tokens after it.

        At least one: the last token is fed again for what comes after it.
        """
        kept = self._kept.get(script.key)
        if kept is None:
            kept = self._kept[script.key] = _Kept()
        elif self._room is not None:
            self._kept.move_to_end(script.key)
        missing, at, parents, sizes = 0.0, node, script.parents, script.sizes
        while at >= 0 and at not in kept.nodes:
            if parents[at] not in kept.grown:
                missing += sizes[at]
            kept.nodes.add(at)
            at = parents[at]
        if drawn:
            kept.grown.add(node)
        if self._room is not None:
            self._keep(kept, missing + drawn)
        found = self._keeps * (script.lengths[node] - missing)
        return max(script.lengths[node] - found, 1.0)

    def _keep(self, kept: _Kept, tokens: float) -> None:
        kept.tokens += tokens
        self._tokens += tokens
        while self._tokens > (self._room or 0) and len(self._kept) > 1:
            _, lost = self._kept.popitem(last=False)
            self._tokens -= lost.tokens
