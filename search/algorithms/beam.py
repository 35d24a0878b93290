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
    one beam (the recipes' `filter_duplicates`). Beams still open after `depth` steps are completed at one go, as in
    the last iteration of the reference. Every completed path is a candidate of the selection, so a search that
    completes none has no answer.

    With `look_ahead` a step is worth what the verifier says of the text that many greedy steps further (look-ahead
    search of Snell et al., section 5.2), in beam search as in DVTS; the reference generates it for both and scores it
    in DVTS alone. The steps ahead are nodes of the tree, paid for like the others, and greedy: none is drawn twice. One
    that completes a path is a candidate of the selection.

    Attributes:
        beams: prefixes kept (N / M).
        width: continuations per prefix kept (M). The places of all beams are filled in turn while there are fewer.
        depth: steps.
        subtrees: independent searches, a divisor of `beams`; 1 is plain beam search.
        look_ahead: greedy steps after each candidate before it is judged, at least 0 (k).
        fill: False leaves places free while there are fewer beams (the first level draws `width` steps, as its_hub's).
    """

    beams: int = 4
    width: int = 4
    depth: int = 40
    subtrees: int = 1
    look_ahead: int = 0
    fill: bool = True

    def __post_init__(self) -> None:
        for name in ("beams", "width", "depth", "subtrees"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        if self.look_ahead < 0:
            raise ConfigError("look_ahead", self.look_ahead, "give a number of at least 0")
        if self.beams % self.subtrees:
            raise ConfigError("subtrees", self.subtrees, f"give a divisor of beams={self.beams}")

    async def __call__(self, s: Session) -> Node | None:
        forest = [[s.root]] * self.subtrees  # one beam per subtree; they march in step
        greedy: dict[Node, Node] = {}  # the step ahead of each node that has one
        for _ in range(self.depth):
            grown = await gather(self.grow(s, beam) for beam in forest)
            children = list(chain.from_iterable(grown))
            if not children:
                break
            ahead = await self.foresee(s, children, greedy)
            await s.score(list(ahead.values()))
            for node, end in ahead.items():
                if self.look_ahead:
                    s.note(node, ahead=end.score)
            forest = [self.keep(beam, steps) for beam, steps in zip(forest, grown, strict=True)]
            kept = set(chain.from_iterable(forest))
            for node, end in ahead.items():
                if node not in kept:
                    for step in reversed(end.path()[node.depth :]):
                        s.prune(step)
        await gather(s.complete(node) for beam in forest for node in beam if not node.terminal)
        return None

    async def grow(self, s: Session, beam: list[Node]) -> list[Node]:
        """The next steps of one beam. What is completed has its place; the others share the places left."""
        active = [node for node in beam if not node.terminal]
        room = self.beams // self.subtrees - (len(beam) - len(active))
        places = Counter(islice(cycle(active), room if self.fill else min(room, len(active))))
        steps = await gather(s.expand(node, self.width * n) for node, n in places.items())
        return list(chain.from_iterable(steps))

    async def foresee(self, s: Session, steps: list[Node], greedy: dict[Node, Node]) -> dict[Node, Node]:
        """Where `look_ahead` greedy steps lead from each of `steps`: to the end of the path at most."""
        ahead = {node: node for node in steps}
        for _ in range(self.look_ahead):
            ends = [end for end in ahead.values() if not end.terminal]
            new = [end for end in dict.fromkeys(ends) if end not in greedy]
            drawn = await gather(s.expand(end, 1, temperature=0.0) for end in new)
            greedy.update((end, step) for end, (step,) in zip(new, drawn, strict=True))
            ahead = {node: greedy.get(end, end) for node, end in ahead.items()}
        return ahead

    def keep(self, beam: list[Node], steps: list[Node]) -> list[Node]:
        """The best of what `beam` has completed and of the `steps` that are not dead; of equals the older."""
        completed = [node for node in beam if node.terminal]
        alive = [node for node in steps if node.complete or not node.terminal]
        return sorted(completed + alive, key=self.rank)[: self.beams // self.subtrees]

    def rank(self, node: Node) -> float:
        return -node.notes.get("ahead", node.score)
