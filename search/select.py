"""Which of the answers found is the answer. Votes count a node as often as it was drawn; ties go to the first seen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from search.ports import Grader
from search.tree import Node


class Selector(Protocol):
    """Picks one of `answers` (complete nodes, oldest first), or None.

    Attributes:
        needs_scores: the answers are to be scored before it is called.
        truncated: paths cut by a token limit stand for election when no path is complete.
    """

    @property
    def needs_scores(self) -> bool: ...

    @property
    def truncated(self) -> bool: ...

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None: ...


@dataclass(frozen=True)
class Best:
    """The highest score (best-of-N). An answer without a score, left by the end of a budget, comes last."""

    truncated: bool = False
    needs_scores: ClassVar[bool] = True

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        return max(answers, key=_score, default=None)


@dataclass(frozen=True)
class First:
    """The one found first."""

    truncated: bool = False
    needs_scores: ClassVar[bool] = False

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        return min(answers, key=lambda node: node.id, default=None)


@dataclass(frozen=True)
class Majority:
    """The answer drawn most often (self-consistency, Wang et al. 2022, arXiv:2203.11171); texts without one abstain.

    Of equal answers the node seen first stands for all.
    """

    truncated: bool = False
    needs_scores: ClassVar[bool] = False

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        groups = await _groups(answers, grader)
        winner = max(groups, key=lambda group: sum(node.times for node in group), default=None)
        return winner[0] if winner else None


@dataclass(frozen=True)
class Weighted:
    """The answer with the largest sum of scores over its draws (weighted best-of-N); texts without one abstain.

    An answer without a score weighs nothing. Of equal answers the one of highest score stands for all.
    """

    truncated: bool = False
    needs_scores: ClassVar[bool] = True

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        groups = await _groups(answers, grader)
        winner = max(groups, key=lambda g: math.fsum(max(_score(n), 0.0) * n.times for n in g), default=None)
        return max(winner, key=_score) if winner else None


@dataclass(frozen=True)
class PrefixWeighted:
    """The majority where each first step has one vote, shared out evenly among the answers that begin with it.

    For trees whose answers share prefixes, and with them their mistakes (TreePO, arXiv:2508.17445; the weighting is
    ours). Of equal answers the node seen first stands for all.
    """

    truncated: bool = False
    needs_scores: ClassVar[bool] = False

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        shares = Counter[Node]()
        for node in answers:
            shares[node.path()[1]] += node.times
        groups = await _groups(answers, grader)
        weights = [math.fsum(node.times / shares[node.path()[1]] for node in group) for group in groups]
        return max(zip(weights, groups, strict=True), key=lambda pair: pair[0])[1][0] if groups else None


@dataclass(frozen=True)
class SameText:
    """A grader for texts that are answers as they stand: equal when they are the same but for outer white space."""

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        labels: dict[str, int] = {}
        return [labels.setdefault(text.strip(), len(labels)) if text.strip() else None for text in texts]


def _score(node: Node) -> float:
    return node.score if node.scored else -1.0


async def _groups(answers: Sequence[Node], grader: Grader) -> list[list[Node]]:
    """Answers by class, in order of first appearance."""
    labels = await grader.classes([node.prefix.text for node in answers])
    groups: dict[int, list[Node]] = defaultdict(list)
    for node, label in zip(answers, labels, strict=True):
        if label is not None:
            groups[label].append(node)
    return list(groups.values())
