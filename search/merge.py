"""Hyper-nodes: steps that say the same, searched as one (FETCH, Wang et al. 2025, arXiv:2502.11183)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle, islice

from search.cluster import Embedding, average_linkage, cosine_distances, words
from search.errors import ConfigError
from search.rules import worth
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class Merge:
    """Parts steps into groups: by what they say, or by the state they lead to. Complete and open ones never mix.

    Attributes:
        threshold: cosine distance up to which groups of texts are joined, in [0, 2]; 0 joins equal vectors alone, 2
            everything. 0.15 is the paper's, for its own embedding.
        embed: vectors of the texts of the steps; the paper trains a sentence embedding, ours is TF-IDF.
        state: what a node has come to, e.g. `Left()`. If given, nodes of equal state are a group, one whose state is
            None is alone, and texts do not matter.
    """

    threshold: float = 0.15
    embed: Embedding = words
    state: Callable[[Node], Hashable] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 2:
            raise ConfigError("threshold", self.threshold, "give a cosine distance from 0 to 2")

    def __call__(self, nodes: Sequence[Node]) -> list[list[Node]]:
        """The groups, in the order of their first members; each node is in exactly one."""
        parts = [[node for node in nodes if node.complete is kind] for kind in (True, False)]
        groups = [group for part in parts if part for group in self._groups(part)]
        place = {node: i for i, node in enumerate(nodes)}
        return sorted(groups, key=lambda group: place[group[0]])

    def _groups(self, nodes: list[Node]) -> list[list[Node]]:
        labels: list[Hashable]
        if self.state is not None:
            states = [self.state(node) for node in nodes]
            labels = [(node,) if state is None else state for node, state in zip(nodes, states, strict=True)]
        else:
            texts = [node.segment.text.strip() for node in nodes]
            labels = [*average_linkage(cosine_distances(self.embed(texts)), self.threshold)]
        groups: dict[Hashable, list[Node]] = {}
        for node, label in zip(nodes, labels, strict=True):
            groups.setdefault(label, []).append(node)
        return list(groups.values())


@dataclass(frozen=True)
class Left:
    """The state a step of a number puzzle ends in: the numbers that `regex` finds, in no order.

    The default reads "13-9=4 (left: 4 4 10)". None where the step does not match.
    """

    regex: str = r"\(left:([^)]*)\)"

    def __call__(self, node: Node) -> tuple[str, ...] | None:
        found = re.findall(self.regex, node.segment.text)
        return tuple(sorted(found[-1].split())) if found else None


@dataclass(eq=False)
class HyperNode:
    """Siblings that say the same.

    Attributes:
        members: at least one, the one worth most first.
        parent: None for the root.
        share: of the draws after the parent that gave one of the members, in (0, 1].
        children: hyper-nodes, in the order of their first draws.
    """

    members: list[Node]
    parent: HyperNode | None = None
    share: float = 1.0
    children: list[HyperNode] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The largest of the members'; 1 for the root."""
        return max(worth(node) for node in self.members)

    @property
    def complete(self) -> bool:
        return self.members[0].complete

    @property
    def depth(self) -> int:
        return self.members[0].depth

    @property
    def visits(self) -> int:
        """Of each member: what is backed up through one is backed up through all."""
        return self.members[0].visits

    def path(self) -> list[HyperNode]:
        """Root first, this one last."""
        return [*(self.parent.path() if self.parent else []), self]


async def grow(s: Session, wave: Sequence[HyperNode], k: int, merge: Merge, *, whole: bool = False) -> list[HyperNode]:
    """`k` next steps (`whole`: completions) after each hyper-node of `wave`, scored and merged: their new children.

    The draws go round the members, the one worth most first. Dead paths are nobody's children.
    """
    turns = [Counter(islice(cycle(hyper.members), k)) for hyper in wave]
    asked = [(node, n) for turn in turns for node, n in turn.items()]
    if whole:
        leaves = await gather(s.complete(node) for node, n in asked for _ in range(n))
        drawn = [[next(it) for _ in range(n)] for it in [iter(leaves)] for _, n in asked]
    else:
        drawn = await gather(s.expand(node, n) for node, n in asked)
    found = {node: steps for (node, _), steps in zip(asked, drawn, strict=True)}
    steps = [list(dict.fromkeys(chain.from_iterable(found[node] for node in turn))) for turn in turns]
    alive = [[node for node in part if node.complete or not node.terminal] for part in steps]
    await s.score(list(chain.from_iterable(alive)))
    for hyper, part in zip(wave, alive, strict=True):
        draws = sum(node.times for node in part)
        for cluster, group in enumerate(merge(part) if part else []):
            best_first = sorted(group, key=lambda node: -worth(node))
            share = sum(node.times for node in group) / draws
            hyper.children.append(HyperNode(best_first, hyper, share))
            for node in group:
                s.note(node, cluster=cluster)
    return [child for hyper in wave for child in hyper.children]
