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
