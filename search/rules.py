"""Rules that papers vary, as pure functions. Symbols as in the papers cited."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from search.tree import Node


def r(node: Node) -> float:
    """The verifier's score in [0, 1]; 1 for the root, which nothing is held against yet."""
    return 1.0 if node.parent is None else node.score


def shortfall(node: Node) -> float:
    """h(s) = 1 - r(s), the heuristic of A*-decoding."""
    return 1.0 - r(node)


def drop(parent: Node, child: Node) -> float:
    """c(s, s') = max(0, h(s') - h(s)): what the score has lost by the step. g adds up the losses."""
    return max(0.0, r(parent) - r(child))


def consistent(parent: Node, child: Node) -> float:
    """c(s, s') = max(0, h(s) - h(s')): what the score has gained, so that h is consistent and f never falls."""
    return max(0.0, r(child) - r(parent))


def zero(parent: Node, child: Node) -> float:
    """c(s, s') = 0: greedy best-first search by the score alone."""
    return 0.0


class Arm(NamedTuple):
    """One child as a selection rule sees it.

    Attributes:
        q: its value, usually in [0, 1].
        p: its prior, in [0, 1]; the priors of siblings add up to 1.
        n: its visits.
        parent: visits of its parent.
    """

    q: float
    p: float
    n: float
    parent: float


def uct(arm: Arm, c: float) -> float:
    """Q + c * sqrt(ln N_p / N); infinite before the first visit (Kocsis and Szepesvari 2006)."""
    return arm.q + c * math.sqrt(_ln(arm.parent) / arm.n) if arm.n else math.inf


def uct_fast(arm: Arm, c: float) -> float:
    """Q + c * sqrt(ln N_p / max(1, N)): an unvisited child counts with its first value (RAP, arXiv:2305.14992)."""
    return arm.q + c * math.sqrt(_ln(arm.parent) / max(1.0, arm.n))


def uct_offset(arm: Arm, c: float, eps: float = 0.1) -> float:
    """Q + c * sqrt((1 + ln N_p) / (eps + N)), of ReST-RL (arXiv:2508.19576)."""
    return arm.q + c * math.sqrt((1 + _ln(arm.parent)) / (eps + arm.n))


def ucb(arm: Arm, c: float, bonus: float = 1.0) -> float:
    """Q + c * sqrt(2 ln N_p / N), and Q + `bonus` before the first visit, of ReST-MCTS* (arXiv:2406.03816).

    The bonus is finite, so that a good visited child may still come before an unvisited one.
    """
    return arm.q + (c * math.sqrt(2 * _ln(arm.parent) / arm.n) if arm.n else bonus)


def puct(arm: Arm, c: float, base: float = 19652.0) -> float:
    """Q + (ln((N_p + base + 1) / base) + c) * P * sqrt(N_p) / (1 + N), of AlphaZero; c is c_init."""
    return arm.q + (math.log((arm.parent + base + 1) / base) + c) * arm.p * math.sqrt(arm.parent) / (1 + arm.n)


def p_ucb(arm: Arm, c: float, base: float = 10.0) -> float:
    """Q + (ln((N_p + base + 1) / base) + c) * P * sqrt(ln N_p) / (1 + N), of PG-TD (arXiv:2303.05510)."""
    weight = math.log((arm.parent + base + 1) / base) + c
    return arm.q + weight * arm.p * math.sqrt(_ln(arm.parent)) / (1 + arm.n)


def by_logprob(children: Sequence[Node]) -> list[float]:
    """P of each child, by exp(mean log-probability of its tokens), adding up to 1 (TS-LLM, arXiv:2309.17179)."""
    return _shares([math.exp(child.segment.mean_logprob) for child in children])


def by_times(children: Sequence[Node]) -> list[float]:
    """P of each child, by how often it was drawn, adding up to 1."""
    return _shares([float(child.times) for child in children])


def uniform(children: Sequence[Node]) -> list[float]:
    """P of each child, the same for all, adding up to 1."""
    return _shares([1.0] * len(children))


def same_step(a: Node, b: Node) -> float:
    """1 where two nodes add the same text, but for outer white space, to their prefixes, else 0."""
    return float(a.segment.text.strip() == b.segment.text.strip())


def same_token(a: Node, b: Node) -> float:
    """1 where two nodes add the same tokens, else 0: summed over b, the Hamming diversity of diverse beam search."""
    return float(a.segment.tokens == b.segment.tokens)


def _ln(visits: float) -> float:
    """The logarithm of a number of visits; 0 before the first."""
    return math.log(visits) if visits > 1 else 0.0


def _shares(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [weight / total if total else 1 / len(weights) for weight in weights]


def log_odds(node: Node) -> float:
    """ln(r / (1 - r)), in nats; r is kept within [1e-7, 1 - 1e-7] as in Rollout Roulette's code (arXiv:2502.01618)."""
    score = min(max(r(node), 1e-7), 1 - 1e-7)
    return math.log(score / (1 - score))


def tries(value: float, most: int = 10, chance: float = 0.9) -> int:
    """b = ceil(log(1 - chance) / log(1 - value)): draws until one succeeds with probability `chance`; 1 to `most`.

    `value` is the probability of success of one draw, clipped to [0.05, 0.95] (LiteSearch, arXiv:2407.00320).
    """
    fail = 1.0 - min(max(value, 0.05), 0.95)
    return min(max(math.ceil(math.log(1.0 - chance) / math.log(fail) - 1e-9), 1), most)


def tries_by_value(value: float, depth: int, greedy: float | None, most: int, chance: float) -> int:
    """The node budget of LiteSearch from its value alone."""
    return tries(value, most, chance)


def tries_by_depth(value: float, depth: int, greedy: float | None, most: int, chance: float) -> int:
    """The node budget of LiteSearch as its authors' code has it: fewer tries the deeper the node, at least 2.

    `depth` is 1 for the root. The value is mixed with that of the greedy answer, which weighs 1 / depth; the tries of
    the mixture are divided by the depth and rounded, halves to even. A node without value has none.
    """
    if value <= 0:
        return 0
    mixed = value if greedy is None else (value + greedy / depth) / (1 + 1 / depth)
    needed = next((c for c in range(1, most) if 1 - (1 - mixed) ** c > chance), most)
    return min(max(round(needed / depth), 2), most)


def worth(node: Node) -> float:
    """The score; 0 for an answer without text and for a step that repeats the one before it (FETCH, arXiv:2502.11183).

    An end of sequence alone is no repetition and, after some text, no answer without text.
    """
    if node.parent is None:
        return 1.0
    text = node.segment.text.strip()
    repeated = bool(text) and node.parent.parent is not None and text == node.parent.segment.text.strip()
    return 0.0 if repeated or (node.complete and not node.prefix.text.strip()) else node.score
