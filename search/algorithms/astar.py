"""A*-decoding: best-first search over partial solutions (Chatziveroglou 2025, arXiv:2505.13672)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from search.errors import ConfigError
from search.frontier import Frontier
from search.rules import drop, shortfall
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class AStar:
    """Expands the open node of least f = g + h; the first complete node popped is the answer.

    What is known of the paper: a state is a prompt with some steps, a successor one of k sampled next steps, r in
    [0, 1] the score of a process reward model, h = 1 - r; successors are ranked by f = g + h. Known at second hand:
    "only increases in h are accumulated into g", which `rules.drop` does literally. Reconstructed by us, since the
    text could not be read: r = 1 for the prompt; the frontier holds all open nodes (`frontier="global"`) although the
    formula as quoted ranks only the k fresh successors (`"local"`, which never goes back); the test for the end when
    a node is popped, as in A*; the tie-breaks; the defaults of width and depth.

    `rules.consistent` charges gains instead of losses: h is then consistent, f never falls along a path, and the
    guarantees of A* hold, but every path whose score never fell is as good as any other. `rules.zero` is greedy
    best-first search. Optimality is meant within the steps sampled: with an h that never overestimates, the answer
    has the least g of all answers in that tree.

    Ours is `expansions` above 1: an expanded node then goes back to the frontier with a higher f, to be drawn from
    again once all else looks worse than that, as in partial expansion (Yoshizumi, Miura and Ishida 2000, "A* with
    partial expansion for large branching factor problems"). Few draws then do where the first ones are good.

    Ours is also the anytime variant, `answers` above 1 or null: complete nodes are set aside as they are popped, and
    the search goes on until it has so many, or until nothing is open or the budget ends; the answer is the one of
    least f of them, or of the highest score, or the choice is left to the selection.

    Ties (f equal to 1e-6): deeper first, then the higher score, then the older.

    Attributes:
        width: next steps drawn per expansion (k), at least 1.
        step_cost: cost of the step parent -> child, at least 0; summed along the path it is g.
        heuristic: h, estimated cost from a node to an answer, at least 0.
        frontier: "global" or "local".
        parallel: nodes expanded at once, at least 1; above 1 some come before their turn. "local" has only 1.
        depth: nodes with this many steps are not expanded.
        cap: open nodes kept at most; None for all.
        expansions: times a node is expanded at most, at least 1; 1 is the paper's.
        revisit: what each expansion adds to the f of the node itself, at least 0.
        answers: complete nodes popped before it ends, at least 1; 1 is A*, None goes on to the end of the budget.
        best: "f" or "score", which of the complete nodes popped is the answer; "select" nominates none.
    """

    width: int = 4
    step_cost: Callable[[Node, Node], float] = drop
    heuristic: Callable[[Node], float] = shortfall
    frontier: Literal["global", "local"] = "global"
    parallel: int = 1
    depth: int = 40
    cap: int | None = None
    expansions: int = 1
    revisit: float = 0.1
    answers: int | None = 1
    best: Literal["f", "score", "select"] = "f"

    def __post_init__(self) -> None:
        if not 0 <= self.revisit < math.inf:
            raise ConfigError("revisit", self.revisit, "give a number of at least 0")
        for name in ("width", "parallel", "depth", "cap", "expansions", "answers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.frontier not in ("global", "local"):
            raise ConfigError("frontier", self.frontier, 'give "global" or "local"')
        for name in ("parallel", "answers"):
            if self.frontier == "local" and (value := getattr(self, name)) != 1:
                raise ConfigError(name, value, "a local frontier follows one path, node by node: give 1")
        if self.best not in ("f", "score", "select"):
            raise ConfigError("best", self.best, 'give "f", "score" or "select"')

    async def __call__(self, s: Session) -> Node | None:
        frontier, popped = Frontier(self.cap), 0
        s.note(s.root, g=0.0, h=self.heuristic(s.root), f=self.heuristic(s.root))
        frontier.push(s.root, *self.key(s.root))
        while frontier:
            wave = self.pop(frontier)
            if wave[0].complete:
                s.note(wave[0], popped=(popped := popped + 1))
                if popped == self.answers:
                    break
                continue
            steps = await gather(s.expand(node, self.width) for node in wave)
            await s.score(list(chain.from_iterable(steps)))
            if self.frontier == "local":
                for node in frontier.clear():
                    s.prune(node)
            for node, children in zip(wave, steps, strict=True):
                if node.draws < self.width * self.expansions:
                    s.note(node, f=node.notes["f"] + self.revisit)
                    self.push(s, frontier, node)
                for child in children:
                    if "f" in child.notes:  # drawn in an earlier expansion
                        continue
                    g = node.notes["g"] + self.step_cost(node, child)
                    h = self.heuristic(child)
                    s.note(child, g=g, h=h, f=g + h)
                    if child.complete or not (child.terminal or child.depth >= self.depth):
                        self.push(s, frontier, child)
        return self.nominate(s)

    def push(self, s: Session, frontier: Frontier, node: Node) -> None:
        """Puts `node` in line; gives up the last one where that is too long."""
        if dropped := frontier.push(node, *self.key(node)):
            s.prune(dropped)

    def pop(self, frontier: Frontier) -> list[Node]:
        """The next complete node alone, or up to `parallel` open ones."""
        wave = [frontier.pop()]
        while frontier and len(wave) < self.parallel and not (wave[0].complete or frontier.peek().complete):
            wave.append(frontier.pop())
        return wave

    def key(self, node: Node) -> tuple[float, ...]:
        return round(node.notes["f"], 6), -node.depth, -node.score

    def nominate(self, s: Session) -> Node | None:
        """The best answer popped, else the first in line of those generated; also when the budget ends."""
        found = [node for node in s.tree.answers() if "f" in node.notes]
        popped = [node for node in found if "popped" in node.notes]
        if popped and self.best == "select":
            return None
        if popped and self.best == "score":
            return max(popped, key=lambda node: (node.score, -node.notes["popped"]))
        return min(popped or found, key=self.key, default=None)
