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


def log_odds(node: Node) -> float:
    """ln(r / (1 - r)), in nats; r is kept within [1e-7, 1 - 1e-7] as in Rollout Roulette's code (arXiv:2502.01618)."""
    score = min(max(r(node), 1e-7), 1 - 1e-7)
    return math.log(score / (1 - score))
