"""FETCH: search over groups of equivalent steps (Wang et al. 2025, arXiv:2502.11183)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from search.errors import ConfigError
from search.merge import HyperNode, Merge, grow
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class Fetch:
    """Best-first or beam search in which siblings that say the same are one hyper-node.

    FETCH ("Don't Get Lost in the Trees", Wang et al. 2025, arXiv:2502.11183, ACL 2025): the next steps of a hyper-node
    are clustered (agglomerative, average linkage, cosine distance), each cluster is a hyper-node worth the most that
    one of its members is, and `width` draws after it go round its members. Its other half, the mean of several
    verifiers, is `verifiers.ensemble.Ensemble`; with MCTS it is `search.algorithms.fetch_mcts`.

    "best_first" takes the best hyper-node not yet expanded until that one is complete; after `iterations` without one
    in front, the best open path is completed greedily. "beam" keeps the `beams` best of the last level and of what is
    complete, `iterations` levels deep, and then completes what is open. In the authors' code best-first search draws
    10 steps for 50 iterations, beam search 5 for each of 5 beams.

    Where we differ: vectors of texts are TF-IDF unless an embedding is given; complete and open steps are never merged
    (in the code this holds for beam search alone); paths cut by a token limit are dropped, as its beam search does with
    what it finds invalid, while repeated steps and answers without text are worth 0 (`rules.worth`); a step drawn twice
    is one member.

    Attributes:
        strategy: "best_first" or "beam".
        width: steps drawn after a hyper-node, at least 1.
        beams: hyper-nodes kept by "beam", at least 1.
        iterations: expansions, or levels, at least 1.
        merge: which steps are one.
    """

    needs: ClassVar[tuple[str, ...]] = ("verifier",)

    strategy: Literal["best_first", "beam"] = "best_first"
    width: int = 10
    beams: int = 5
    iterations: int = 50
    merge: Merge = Merge()

    def __post_init__(self) -> None:
        if self.strategy not in ("best_first", "beam"):
            raise ConfigError("strategy", self.strategy, 'give "best_first" or "beam"')
        for name in ("width", "beams", "iterations"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")

    async def __call__(self, s: Session) -> Node | None:
        root = HyperNode([s.root])
        await (self.best_first(s, root) if self.strategy == "best_first" else self.beam(s, root))
        return None

    async def best_first(self, s: Session, root: HyperNode) -> None:
        unvisited, best = [root], root
        for _ in range(self.iterations):
            unvisited.remove(best)
            unvisited += await grow(s, [best], self.width, self.merge)
            if not unvisited:
                return
            best = max(unvisited, key=lambda hyper: hyper.value)
            if best.complete:
                return
        await s.complete(best.members[0], temperature=0.0)

    async def beam(self, s: Session, root: HyperNode) -> None:
        beam = [root]
        for _ in range(self.iterations):
            wave = [hyper for hyper in beam if not hyper.complete]
            if not wave:
                return
            pool = [hyper for hyper in beam if hyper.complete] + await grow(s, wave, self.width, self.merge)
            ranked = sorted(pool, key=lambda hyper: -hyper.value)
            beam = ranked[: self.beams]
            for hyper in ranked[self.beams :]:
                for node in hyper.members:
                    s.prune(node)
        await gather(s.complete(hyper.members[0], temperature=0.0) for hyper in beam if not hyper.complete)
