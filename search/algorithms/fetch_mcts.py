"""FETCH with MCTS: Monte Carlo tree search over groups of equivalent steps (Wang et al. 2025, arXiv:2502.11183)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar

from search.errors import ConfigError
from search.merge import HyperNode, Merge, grow
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class FetchMCTS:
    """MCTS whose nodes are hyper-nodes: select by UCB, expand and merge, evaluate one child, back up.

    FETCH (arXiv:2502.11183), after the authors' code. From the root it goes to the child of largest
    Q + c p sqrt(ln n_parent / n), with p = 0.8 + 0.2 * the cluster's share of the draws and n = visits + 1, until a
    child has not been evaluated or there are none. Then it expands: `root_width` or `width` draws, and half a draw more
    for each member (at most doubling them), round the members, merged; or completions in place of steps, once it is
    `depth` steps deep or Q is at least `confident`. The first child not evaluated gets the reward (1 - alpha) * value +
    alpha * mean of `rollouts` completions' scores; a complete one its value, again whenever the search comes back.

    It ends after `most` iterations, or after `least` when `terminals` answers were evaluated; coming back to one counts
    a tenth. Where we differ: a hyper-node all of whose draws were cut is worth 0 and not drawn from again; roll-outs
    are nodes of the tree, and so candidates of the selection.

    Attributes:
        root_width, width: draws after the root and after other hyper-nodes, at least 1.
        c: weight of exploration, at least 0.
        alpha: weight of the roll-outs, in [0, 1].
        rollouts: completions per evaluation, at least 0; 0 leaves the value alone.
        depth: steps after which paths are completed at one go, at least 1.
        confident: Q from which they are, in [0, 1].
        least, most: iterations, at least 1.
        terminals: complete hyper-nodes evaluated before it may end, at least 0.
        merge: which steps are one.
    """

    needs: ClassVar[tuple[str, ...]] = ("verifier",)

    root_width: int = 8
    width: int = 4
    c: float = 0.6
    alpha: float = 0.5
    rollouts: int = 2
    depth: int = 4
    confident: float = 0.9
    least: int = 40
    most: int = 400
    terminals: float = 10
    merge: Merge = Merge()

    def __post_init__(self) -> None:
        for name in ("root_width", "width", "depth", "least", "most"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        for name in ("c", "rollouts", "terminals"):
            if not (value := getattr(self, name)) >= 0:
                raise ConfigError(name, value, "give a number of at least 0")
        for name in ("alpha", "confident"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(name, value, "give a number from 0 to 1")

    async def __call__(self, s: Session) -> Node | None:
        root, time, found = HyperNode([s.root]), 0, 0.0
        ends: dict[HyperNode, float] = {}  # what coming back is worth: to an answer its reward, to a dead end 0
        while (time < self.least or found < self.terminals) and time < self.most and root not in ends:
            time += 1
            node = self.select(root)
            if node in ends:
                found, reward = found + 0.1 * node.complete, ends[node]
            else:
                child = await self.expand(s, node)
                node, reward = (child, await self.evaluate(s, child)) if child else (node, 0.0)
                found += node.complete
                if node.complete or not child:
                    ends[node] = reward
            s.backup([member for hyper in node.path() for member in hyper.members], reward)
        return None

    def select(self, root: HyperNode) -> HyperNode:
        """The first hyper-node on the way down that has a child to evaluate, or no children."""
        node = root
        while node.children and all(child.visits for child in node.children):
            node = max(node.children, key=self.ucb)
        return node

    def ucb(self, node: HyperNode) -> float:
        assert node.parent is not None
        p = 0.8 + 0.2 * node.share
        return mean(node) + self.c * p * math.sqrt(math.log(node.parent.visits + 1) / (node.visits + 1))

    async def expand(self, s: Session, node: HyperNode) -> HyperNode | None:
        """The first child of `node` not evaluated; its children are drawn when it has none. None at a dead end."""
        if not node.children:
            width = self.width if node.parent else self.root_width
            draws = width + round(min(len(node.members) / 2, width))
            whole = node.depth >= self.depth or mean(node) >= self.confident
            await grow(s, [node], draws, self.merge, whole=whole)
        return next((child for child in node.children if not child.visits), None)

    async def evaluate(self, s: Session, node: HyperNode) -> float:
        """(1 - alpha) * value + alpha * mean score of completions of its members in turn."""
        if node.complete or not self.rollouts:
            return node.value
        leaves = await gather(s.complete(member) for member in islice(cycle(node.members), self.rollouts))
        await s.score([leaf for leaf in leaves if leaf.complete])
        values = [leaf.score if leaf.complete else 0.0 for leaf in leaves]
        return (1 - self.alpha) * node.value + self.alpha * math.fsum(values) / len(values)


def mean(node: HyperNode) -> float:
    """Q: of what was backed up; 0 before."""
    return node.members[0].total / node.visits if node.visits else 0.0
