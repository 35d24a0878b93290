"""Diverse beam search over steps and over tokens: groups of beams that avoid each other (Vijayakumar et al. 2016)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice

from search.errors import ConfigError
from search.hypotheses import Choice, best, check_choice, chosen, forsake, needs, take, taken
from search.rules import same_step, same_token
from search.session import Session, gather
from search.tree import Node

Similar = Callable[[Node, Node], float]


@dataclass(frozen=True)
class DiverseBeam:
    """Step beams in groups; what earlier groups have chosen at the same depth counts against a step.

    Vijayakumar et al. 2016, "Diverse Beam Search" (arXiv:1610.02424), algorithm 1, carried over to steps by us: a
    candidate's rank is the verifier's score minus `strength` times its similarity to each step that the groups before
    have kept at this depth. With equal text as the similarity that is the paper's Hamming diversity with a step for a
    token. The penalty is of one depth only, because a score judges the whole prefix anew; the selection does not see
    it. The rest is `beam.Beam`: completed beams keep their places, with the rank they had; beams still open after
    `depth` steps are completed at one go. One group is that search.

    Attributes:
        beams: prefixes kept by all groups together (B).
        groups: a divisor of `beams` (G); one beam per group is the paper's advice.
        width: steps drawn per prefix kept.
        strength: lambda, at least 0; the paper takes 0.2 to 0.8 log-probability units, here it is a score in [0, 1].
        similar: from a candidate and a step chosen before to [0, 1].
        depth: steps.
    """

    beams: int = 4
    groups: int = 4
    width: int = 4
    strength: float = 0.5
    similar: Similar = same_step
    depth: int = 40

    def __post_init__(self) -> None:
        for name in ("beams", "groups", "width", "depth"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        _check_groups(self.beams, self.groups, self.strength)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("verifier",)

    async def __call__(self, s: Session) -> Node | None:
        forest = [_Group(s.root) for _ in range(self.groups)]
        for _ in range(self.depth):
            grown = await gather(self.grow(s, group.beam) for group in forest)
            if not any(grown):
                break
            await s.score(list(chain.from_iterable(grown)))
            chosen_: list[Node] = []  # at this depth, by the groups before
            for number, (group, steps) in enumerate(zip(forest, grown, strict=True)):
                ranks = {node: node.score for node in steps if node.complete or not node.terminal}
                new = group.keep(self.beams // self.groups, ranks, chosen_, self.strength, self.similar)
                for node in new:
                    s.note(node, group=number, rank=group.beam[node])
                chosen_ += new
            kept = {node for group in forest for node in group.beam}
            for node in dict.fromkeys(chain.from_iterable(grown)):
                if node not in kept:
                    s.prune(node)
        await gather(s.complete(node) for group in forest for node in group.open)
        return None

    async def grow(self, s: Session, beam: dict[Node, float]) -> list[Node]:
        """The next steps of one group. What is completed has its place; the others share the places left."""
        active = [node for node in beam if not node.terminal]
        places = Counter(islice(cycle(active), self.beams // self.groups - (len(beam) - len(active))))
        steps = await gather(s.expand(node, self.width * n) for node, n in places.items())
        return list(chain.from_iterable(steps))


@dataclass(frozen=True)
class DiverseTokenBeam:
    """Token beams in groups; a token that earlier groups have chosen at the same place counts against a hypothesis.

    Vijayakumar et al. 2016, "Diverse Beam Search" (arXiv:1610.02424), algorithm 1 with Hamming diversity: of a token,
    the beams of the groups before that took it at this place. As in the authors' code the penalties of a hypothesis
    add up along it (the formula has that of the last token only), and the answer is chosen by log-probability without
    them. Finished hypotheses keep their places, and a group ends when all of its are finished; the authors' code and
    most libraries fill such places again. Groups that hold the same hypothesis share its one call. Without
    temperature and without draws.

    Attributes:
        beams: hypotheses kept by all groups together (B); of one, the B likeliest successors are all that can be kept.
        groups: a divisor of `beams` (G).
        strength: lambda, nats, at least 0; 0.5 in the paper. 0 makes all groups the same.
        alpha: exponent of the length in the final choice, at least 0.
        length: tokens of a hypothesis at most, the end of sequence included.
        choose: who picks the answer among the finished hypotheses of all groups, "model" or "verifier".
    """

    beams: int = 6
    groups: int = 3
    strength: float = 0.5
    alpha: float = 0.0
    length: int = 256
    choose: Choice = "model"

    def __post_init__(self) -> None:
        for name in ("beams", "groups", "length"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        _check_groups(self.beams, self.groups, self.strength)
        if not self.alpha >= 0:
            raise ConfigError("alpha", self.alpha, "give a number of at least 0")
        check_choice(self.choose)

    @property
    def needs(self) -> tuple[str, ...]:
        return needs(self.choose)

    async def __call__(self, s: Session) -> Node | None:
        forest = [_Group(s.root) for _ in range(self.groups)]
        for _ in range(self.length):
            open_ = list(dict.fromkeys(node for group in forest for node in group.open))
            if not open_:
                break
            children = await gather(s.branch(node, self.beams) for node in open_)
            listed = dict(zip(open_, children, strict=True))
            chosen_: list[Node] = []  # at this place, by the groups before
            for number, group in enumerate(forest):
                ranks = {c: group.beam[node] + c.segment.logprobs[0] for node in group.open for c in listed[node]}
                new = group.keep(self.beams // self.groups, ranks, chosen_, self.strength, same_token)
                take(s, new)
                for node in new:
                    s.note(node, group=number, rank=group.beam[node])
                chosen_ += new
            forsake(s, open_, chosen_)
        finished = list(dict.fromkeys(node for group in forest for node in group.beam if node.complete))
        return await chosen(s, finished, self.choose, self.alpha)

    def nominate(self, s: Session) -> Node | None:
        """The best of the finished hypotheses when the budget ends."""
        return best(taken(s), self.choose, self.alpha)


class _Group:
    """The beam of one group: its nodes, each with the rank it was kept for."""

    def __init__(self, root: Node):
        self.beam: dict[Node, float] = {root: 0.0}

    @property
    def open(self) -> list[Node]:
        return [node for node in self.beam if not node.terminal]

    def keep(
        self, places: int, ranks: dict[Node, float], others: Sequence[Node], strength: float, similar: Similar
    ) -> list[Node]:
        """Replaces the beam by its finished nodes and the candidates, the best of both; those that are new in it.

        `ranks` are those of the candidates before the penalty for their likeness to `others`. Of equals the older.
        """
        old = {node: rank for node, rank in self.beam.items() if node.complete}
        new = {node: rank - strength * sum(similar(node, other) for other in others) for node, rank in ranks.items()}
        ranked = sorted((old | new).items(), key=lambda item: -item[1])
        self.beam = dict(ranked[:places])
        return [node for node in self.beam if node in new]


def _check_groups(beams: int, groups: int, strength: float) -> None:
    if beams % groups:
        raise ConfigError("groups", groups, f"give a divisor of beams={beams}")
    if not strength >= 0:
        raise ConfigError("strength", strength, "give a number of at least 0")
