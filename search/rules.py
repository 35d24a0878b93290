"""Rules that papers vary, as pure functions. Symbols as in the papers cited."""

from __future__ import annotations

import math

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


def same_step(a: Node, b: Node) -> float:
    """1 where two nodes add the same text, but for outer white space, to their prefixes, else 0."""
    return float(a.segment.text.strip() == b.segment.text.strip())


def same_token(a: Node, b: Node) -> float:
    """1 where two nodes add the same tokens, else 0: summed over b, the Hamming diversity of diverse beam search."""
    return float(a.segment.tokens == b.segment.tokens)


def p_ucb(q: float, prior: float, parent_visits: int, visits: int, base: float, c: float) -> float:
    """P-UCB of PG-TD (Zhang et al. 2023, arXiv:2303.05510): Q + beta(N) P sqrt(ln N) / (1 + n).

    beta(N) = ln((N + base + 1) / base) + c. N (at least 1) and n are the visits of the parent and of the child.
    """
    beta = math.log((parent_visits + base + 1) / base) + c
    return q + beta * prior * math.sqrt(math.log(parent_visits)) / (1 + visits)
