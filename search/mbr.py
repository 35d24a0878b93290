"""Minimum-Bayes-risk selection: the answer that agrees most with all the others."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from search.errors import ConfigError
from search.ports import Grader
from search.tree import Node

Utility = Callable[[str, str], float]
"""u(candidate, other) in [0, 1]: what the candidate is worth if the other is right; 1 for equal texts."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def token_f1(candidate: str, other: str) -> float:
    """F1 of precision and recall over the multisets of words and signs; 1 for two blank texts."""
    a, b = Counter(_TOKEN.findall(candidate)), Counter(_TOKEN.findall(other))
    return _f1((a & b).total(), a.total(), b.total())


def rouge_l(candidate: str, other: str) -> float:
    """F1 over the longest common subsequence of words and signs (Lin 2004); unlike `token_f1` it sees their order."""
    a, b = _TOKEN.findall(candidate), _TOKEN.findall(other)
    row = [0] * (len(b) + 1)  # longest common subsequence of the part of a read so far and the beginnings of b
    for word in a:
        above, row = row, [0]
        for j, each in enumerate(b):
            row.append(above[j] + 1 if word == each else max(above[j + 1], row[j]))
    return _f1(row[-1], len(a), len(b))


def _f1(common: int, a: int, b: int) -> float:
    return 2 * common / (a + b) if a + b else 1.0


@dataclass(frozen=True)
class MBR:
    """The answer y of the largest sum over answers y' of w(y') * u(y, y') (Kumar and Byrne 2004; Eikema and Aziz 2020,
    arXiv:2005.10283).

    With `utility=None` u is equality as the grader sees it, 1 or 0: that is the majority vote, and with
    `weights="score"` the weighted one but for which of equal answers stands for all: here the first. With a function
    u compares whole texts, which suits answers that are never quite equal. A draw counts as often as it came. Texts in
    which the grader finds no answer (with a function: blank ones) neither vote nor stand. Ties go to the first seen.
    Costs n * n calls of the function for n different answers.

    Attributes:
        utility: u(candidate, other), or None for equality of answers.
        weights: w(y') of a draw: "equal"; "score", the verifier's, 0 where it has none; "likelihood",
            exp(mean log-probability of the path), per token so that length does not decide.
        itself: whether a draw counts for itself; without, each answer is held against all other draws (leave-one-out),
            copies of it among them. Under equal weights and a utility of 1 for equal texts, both choose the same.
        truncated: whether paths cut by a token limit may stand in when no path is complete.
    """

    utility: Utility | None = None
    weights: Literal["equal", "score", "likelihood"] = "equal"
    itself: bool = True
    truncated: bool = False

    def __post_init__(self) -> None:
        if self.weights not in ("equal", "score", "likelihood"):
            raise ConfigError("weights", self.weights, 'give "equal", "score" or "likelihood"')

    @property
    def needs_scores(self) -> bool:
        """Only to weigh by them."""
        return self.weights == "score"

    async def __call__(self, answers: Sequence[Node], grader: Grader) -> Node | None:
        texts = [node.prefix.text for node in answers]
        labels = (
            await grader.classes(texts) if self.utility is None else [0 if text.strip() else None for text in texts]
        )
        standing = [i for i, label in enumerate(labels) if label is not None]

        def u(i: int, j: int) -> float:
            return float(labels[i] == labels[j]) if self.utility is None else self.utility(texts[i], texts[j])

        def worth(i: int) -> float:
            return math.fsum(
                self.weight(answers[j]) * (answers[j].times - (i == j and not self.itself)) * u(i, j) for j in standing
            )

        best = max(standing, key=worth, default=None)
        return None if best is None else answers[best]

    def weight(self, node: Node) -> float:
        """w of one draw that gave `node`."""
        if self.weights == "equal":
            return 1.0
        if self.weights == "score":
            return node.score if node.scored else 0.0
        logprobs = [x for step in node.prefix.steps for x in step.logprobs]
        return math.exp(math.fsum(logprobs) / max(len(logprobs), 1))
