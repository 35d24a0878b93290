"""Lattice decoding: best-first search with completion in depth and recombination (Xu, Jonnalagadda, Durrett 2021)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from search.errors import ConfigError
from search.frontier import Frontier
from search.hypotheses import Choice, best, check_choice, chosen, needs, normalised, take, taken
from search.lattice import Lattice
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class LatticeSearch:
    """Dives from the best open hypothesis to an end, again and again, and merges hypotheses with equal last tokens.

    Xu, Jonnalagadda and Durrett 2021, "Massive-scale Decoding for Text Generation using Lattices" (arXiv:2112.07660):

    - Best first with depth-first completion: the open hypothesis of highest log-probability / length ** alpha is
      popped and continued by its likeliest token until it ends; the other tokens listed on the way are open.
    - Recombination: a hypothesis about to be continued, whose last `match` tokens are those of one continued before
      of nearly the same length, is merged with it instead: what follows one is taken to follow both. "rcb" merges
      that hypothesis alone, "zip" also the prefixes of the two, backwards, as long as their tokens agree.

    The dive of a merged hypothesis ends there, for where it leads has been seen. A merge that would close a cycle is
    refused, and the search goes on with the next match or the hypothesis itself. Merges are notes (`merged`, the
    id of the node merged into); `search.lattice.Lattice.of(tree)` reads them, counts and lists the paths. The answer
    is a finished hypothesis of the tree, whose log-probability is exact; of paths through merges it is an estimate.
    Left out: the share of the budget kept for the ends of open nodes, as every dive ends by itself.

    Attributes:
        calls: calls to the model, at least 1; fewer only when nothing is open. The paper's budget.
        top: tokens listed after each hypothesis, at least 1.
        alpha: exponent of the length, at least 0.
        recombine: "zip", "rcb" or "none".
        match: last tokens that have to be equal, at least 1 (n).
        gap: lengths of merged hypotheses differ by less than this, at least 1 (beta).
        length: tokens of a hypothesis at most, the end of sequence included; longer ones are dead.
        parallel: dives side by side, at least 1; above 1 some begin before their turn.
        choose: who picks the answer among the finished hypotheses, "model" or "verifier".
    """

    calls: int = 256
    top: int = 5
    alpha: float = 0.75
    recombine: Literal["zip", "rcb", "none"] = "zip"
    match: int = 4
    gap: int = 5
    length: int = 256
    parallel: int = 1
    choose: Choice = "model"

    def __post_init__(self) -> None:
        for name in ("calls", "top", "match", "gap", "length", "parallel"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if not self.alpha >= 0:
            raise ConfigError("alpha", self.alpha, "give a number of at least 0")
        if self.recombine not in ("zip", "rcb", "none"):
            raise ConfigError("recombine", self.recombine, 'give "zip", "rcb" or "none"')
        check_choice(self.choose)

    @property
    def needs(self) -> tuple[str, ...]:
        return needs(self.choose)

    async def __call__(self, s: Session) -> Node | None:
        open_, lattice, calls = Frontier(), Lattice(s.root), self.calls
        continued: dict[tuple[int, ...], list[Node]] = defaultdict(list)  # by their last tokens
        dives = [s.root]
        while dives and calls:
            wave, dives = dives[:calls], []
            calls -= len(wave)
            for likeliest, *others in await gather(s.branch(node, self.top) for node in wave):
                for node in others:
                    open_.push(node, -normalised(node, self.alpha))
                if self.goes_on(s, lattice, continued, likeliest):
                    dives.append(likeliest)
            while calls and open_ and len(dives) < self.parallel:
                if self.goes_on(s, lattice, continued, node := open_.pop()):
                    dives.append(node)
        return await chosen(s, taken(s), self.choose, self.alpha)

    def goes_on(self, s: Session, lattice: Lattice, continued: dict[tuple[int, ...], list[Node]], node: Node) -> bool:
        """Takes `node`; whether it is to be continued: it has not ended and is merged with none continued before."""
        take(s, [node])
        if node.complete or node.depth >= self.length:
            return False
        if self.recombine == "none" or node.depth < self.match:
            return True
        alike = continued[self.suffix(node)]
        for other in alike:
            if abs(other.depth - node.depth) < self.gap and self.merge(s, lattice, node, other):
                if self.recombine == "zip":
                    self.zip(s, lattice, node, other)
                return False
        alike.append(node)
        return True

    def merge(self, s: Session, lattice: Lattice, node: Node, other: Node) -> bool:
        """Merges the classes of two nodes and notes it, unless they are one or a path joins them."""
        if gone := lattice.merge(node, other):
            s.note(gone, merged=lattice.name(gone).id)
        return gone is not None

    def zip(self, s: Session, lattice: Lattice, node: Node, other: Node) -> None:
        """Merges the prefixes of two merged nodes, from the last one back, as long as their last tokens agree."""
        while (node.parent and other.parent) and (node := node.parent) is not (other := other.parent):
            if node.segment.tokens != other.segment.tokens or not self.merge(s, lattice, node, other):
                break

    def suffix(self, node: Node) -> tuple[int, ...]:
        """The last `match` tokens of the path."""
        tokens: list[int] = []
        here: Node | None = node
        while here is not None and here.parent is not None and len(tokens) < self.match:
            tokens += reversed(here.segment.tokens)
            here = here.parent
        return tuple(reversed(tokens))

    def nominate(self, s: Session) -> Node | None:
        """The best of the finished hypotheses when the budget ends."""
        return best(taken(s), self.choose, self.alpha)
