"""What a node of Monte Carlo tree search is worth after a playout, as pure functions over its statistics.

Such a search notes with each node: `prior`, on the steps it may choose (its arms); `drawn`, how many steps it asked
for; `q`, its value where that is not the mean of what was backed up; `proven`, a value that no further playout below
the node can change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from search.errors import VerifierError
from search.tree import Node

Backup = Callable[[Node, float], float]
Returns = Callable[[Sequence[Node], float], list[float]]


def arms(node: Node) -> list[Node]:
    """The children a search may choose; roll-outs that start at `node` are not among them."""
    return [child for child in node.children if "prior" in child.notes]


def proven(node: Node) -> bool:
    """Whether nothing that could change its value is left below `node`."""
    return "proven" in node.notes


def dead(node: Node) -> bool:
    """Whether no answer can follow: cut by a token limit, or all steps drawn after it were."""
    return not node.complete if node.terminal else "drawn" in node.notes and not arms(node)


def q(node: Node) -> float:
    """Q: what was backed up, else the node's own score, else its parent's Q; 0 without any."""
    if node.visits:
        return node.notes.get("q", node.value)
    if node.scored:
        return node.score
    return q(node.parent) if node.parent else 0.0


def best(node: Node, value: float) -> float:
    """Q after `value` was backed up through `node`: the largest of all values so far."""
    return max(node.notes.get("q", -math.inf), value)


def by_children(node: Node, value: float) -> float:
    """Q after `value` was backed up through `node`: the mean of its arms' Q by their visits (ReST-MCTS*).

    Without a visited arm it is `value`. Arms have their new Q already.
    """
    visited = [arm for arm in arms(node) if arm.visits]
    visits = sum(arm.visits for arm in visited)
    return math.fsum(arm.visits * q(arm) for arm in visited) / visits if visits else value


def same(path: Sequence[Node], value: float) -> list[float]:
    """The value of the leaf, for each node of `path`."""
    return [value] * len(path)


def onward(path: Sequence[Node], value: float) -> list[float]:
    """For each node of `path`, the mean of the leaf's step values from that node's own step on.

    The cumulative reward of RAP (arXiv:2305.14992), divided by the number of steps so that it stays in [0, 1]; the
    root gets the mean over all steps. `value` stands for all where the leaf is a dead end and was not judged.

    Raises VerifierError where the verifier gives no step values.
    """
    leaf = path[-1]
    if not leaf.scored or leaf.parent is None:
        return same(path, value)
    if len(leaf.step_scores) < leaf.depth:
        raise VerifierError("rewards are added up along the path, which needs a verifier with one value per step")
    ahead = [leaf.step_scores[max(node.depth - 1, 0) :] for node in path]
    return [math.fsum(steps) / len(steps) for steps in ahead]
