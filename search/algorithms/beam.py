"""Beam search over steps, guided by a verifier; with subtrees, diverse verifier tree search (DVTS)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain, cycle, islice

from search.errors import ConfigError
from search.session import Session, gather
from search.tree import Node


@dataclass(frozen=True)
class Beam:
    """Keeps the `beams` best prefixes and continues each of them `width` times, level by level.

    The step beam search of Snell et al. 2024 (arXiv:2408.03314, section 5.2) as in the recipes of search-and-learn,
    where n = beams * width, and DVTS (Beeching et al. 2024): the beams are shared out among `subtrees`, which do not
    compete with each other; DVTS proper keeps one beam per subtree (`subtrees` = `beams`).

    Where we differ: completed beams stay in the competition for places instead of leaving it; a step drawn twice is
    one beam (the recipes' `filter_duplicates`); look-ahead is left out, as the reference ignores it in the scores of a
    beam. Beams still open after `depth` steps are completed at one go, as in the last iteration of the reference.
    Every completed path is a candidate of the selection, so a search that completes none has no answer.

    Attributes:
        beams: prefixes kept (N / M).
        width: continuations per prefix kept (M). The places of all beams are filled in turn while there are fewer.
        depth: steps.
        subtrees: independent searches, a divisor of `beams`; 1 is plain beam search.
    """

    beams: int = 4
    width: int = 4
    depth: int = 40
    subtrees: int = 1

    def __post_init__(self) -> None:
        for name in ("beams", "width", "depth", "subtrees"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.beams % self.subtrees:
            raise ConfigError("subtrees", self.subtrees, f"give a divisor of beams={self.beams}")

    async def __call__(self, s: Session) -> Node | None:
        forest = [[s.root]] * self.subtrees  # one beam per subtree; they march in step
        for _ in range(self.depth):
            grown = await gather(self.grow(s, beam) for beam in forest)
            children = list(chain.from_iterable(grown))
            if not children:
                break
            await s.score(children)
            forest = [self.keep(beam, steps) for beam, steps in zip(forest, grown, strict=True)]
            kept = set(chain.from_iterable(forest))
            for node in dict.fromkeys(children):
                if node not in kept:
                    s.prune(node)
        await gather(s.complete(node) for beam in forest for node in beam if not node.terminal)
        return None

    async def grow(self, s: Session, beam: list[Node]) -> list[Node]:
        """The next steps of one beam. What is completed has its place; the others share the places left."""
        active = [node for node in beam if not node.terminal]
        places = Counter(islice(cycle(active), self.beams // self.subtrees - (len(beam) - len(active))))
        steps = await gather(s.expand(node, self.width * n) for node, n in places.items())
        return list(chain.from_iterable(steps))

    def keep(self, beam: list[Node], steps: list[Node]) -> list[Node]:
        """The best of what `beam` has completed and of the `steps` that are not dead; of equals the older."""
        completed = [node for node in beam if node.terminal]
        alive = [node for node in steps if node.complete or not node.terminal]
        return sorted(completed + alive, key=lambda node: -node.score)[: self.beams // self.subtrees]
