"""LiteSearch: best-first search in which a node's value says how many children it may have (Wang et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from search.errors import ConfigError
from search.rules import tries_by_value
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class LiteSearch:
    """Goes to the node of highest value plus progress and gives it the tries that its value asks for.

    LiteSearch (Wang et al. 2024, arXiv:2407.00320, AAAI 2025): a node s scores S(s) = V(s) + lambda * progress(s), with
    progress = depth / length of a greedy solution; it may have b(s) children, so many that one of them succeeds with
    probability p* if V(s) is the probability that one does. `incremental` draws one child at a time and selects again;
    otherwise all b(s) at once. It ends when an answer is good enough, and answers greedily where it finds nothing.

    The authors' code differs from what is told of the paper: it selects by V alone (`progress` = 0, our default), and
    divides the tries by the depth and mixes the value with that of the greedy answer: `rules.tries_by_depth`. From it
    come the end of the search (an answer above `theta` and above the greedy answer's score less 0.01, or `answers`
    answers, or a complete node, or a worthless one, in front) and the first try of each node at temperature 0.

    Ours: the greedy solution is drawn step by step, so that its steps are at hand, unpaid, as first tries; the value of
    the prompt is that of the greedy solution, since not every verifier has one for a bare prompt (`most` without it).
    Ties go to the older node; the draws of a node are its tries, also those that gave the same child.

    Attributes:
        most: tries per node at most (B), at least 1.
        chance: probability of a success among the tries of a node (p*), in (0, 1).
        node_budget: tries from (value, depth + 1, greedy answer's score or None, most, chance).
        progress: weight of the progress (lambda), at least 0.
        incremental: whether a node is expanded one child at a time.
        greedy: whether there is a greedy solution, and a greedy first try of each node.
        theta: score above which an answer ends the search, in [0, 1]; 1 for never.
        answers: answers found by the search that end it, at least 1.
        floor: value below which a node is not worth a try, in [0, 1].
        iterations: expansions, at least 1.
        depth: steps of a path.
    """

    needs: ClassVar[tuple[str, ...]] = ("verifier",)

    most: int = 10
    chance: float = 0.9
    node_budget: Callable[[float, int, float | None, int, float], int] = tries_by_value
    progress: float = 0.0
    incremental: bool = True
    greedy: bool = True
    theta: float = 0.8
    answers: int = 5
    floor: float = 0.01
    iterations: int = 100
    depth: int = 40

    def __post_init__(self) -> None:
        for name in ("most", "answers", "iterations", "depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not 0 < self.chance < 1:
            raise ConfigError("chance", self.chance, "give a number between 0 and 1")
        if not self.progress >= 0:
            raise ConfigError("progress", self.progress, "give a number of at least 0")
        for name in ("theta", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(name, getattr(self, name), "give a number from 0 to 1")
        if self.progress and not self.greedy:
            raise ConfigError("progress", self.progress, "the length of a greedy solution is needed: set greedy=true")

    async def __call__(self, s: Session) -> Node | None:
        path = await self.decode(s)
        last = path[-1]
        value = (await s.score([last]))[0] if last.complete else None
        tried: dict[Node, int] = {}  # nodes the search has come to, and the tries each has had
        self.add(s, tried, s.root, value, last.depth)
        for _ in range(self.iterations):
            open_ = [node for node in tried if node.complete or tried[node] < node.notes["tries"]]
            node = max(open_, key=lambda node: node.notes["merit"], default=None)
            if node is None or node.complete or (node.parent and node.score < self.floor):
                break
            k = 1 if self.incremental else int(node.notes["tries"]) - tried[node]
            children = await self.grow(s, node, k, path, first=not tried[node])
            tried[node] += k
            await s.score(children)
            for child in children:
                if child not in tried and not (child.terminal and not child.complete):
                    self.add(s, tried, child, value, last.depth)
            found = [child for child in tried if child.complete]
            best = max((child.score for child in found), default=0.0)
            if best > max(self.theta, (value or 0.0) - 0.01) or len(found) >= self.answers:
                break
        return self.nominate(s)

    async def decode(self, s: Session) -> list[Node]:
        """The greedy path from the root; the root alone without `greedy`."""
        path = [s.root]
        while self.greedy and not path[-1].terminal and path[-1].depth < self.depth:
            path += await s.expand(path[-1], 1, temperature=0.0)
        return path

    def add(self, s: Session, tried: dict[Node, int], node: Node, greedy: float | None, length: int) -> None:
        """Puts `node` among those to choose from: `tries` is b(s), `merit` is S(s)."""
        tried[node] = 0
        value = (1.0 if greedy is None else greedy) if node.parent is None else node.score
        tries = self.node_budget(value, node.depth + 1, greedy, self.most, self.chance)
        if node.parent is None:
            tries = self.most if greedy is None else max(tries, 1)
        elif node.depth >= self.depth:
            tries = 0
        merit = value + (self.progress * min(node.depth / length, 1.0) if length else 0.0)
        s.note(node, tries=tries, merit=merit)

    async def grow(self, s: Session, node: Node, k: int, path: list[Node], first: bool) -> list[Node]:
        """`k` tries; the first of all is greedy, and costs nothing on the greedy path."""
        known = [child for child in path[1:] if child.parent is node] if first else []
        greedy = [s.expand(node, 1, temperature=0.0)] if first and self.greedy and not known else []
        k -= len(known) + len(greedy)
        drawn = await gather(greedy + ([s.expand(node, k)] if k else []))
        return known + [child for children in drawn for child in children]

    def nominate(self, s: Session) -> Node | None:
        """The answer of highest score, the greedy one among them; also when the budget ends."""
        return max(s.tree.answers(), key=lambda node: node.score if node.scored else -1.0, default=None)
