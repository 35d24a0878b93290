"""Advantages of trajectories and of their segments, from a finished tree, for those who train (arXiv:2508.17445).

A trajectory is given by its last node, a list of trajectories may name a node more than once (`trajectories` does so
for leaves drawn more than once), and rewards are any finite numbers, one per trajectory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from search.tree import Node, Tree


def trajectories(tree: Tree) -> list[Node]:
    """The ends of all paths, complete or cut, oldest first; each as often as it was drawn."""
    return [node for node in tree if node.terminal for _ in range(node.times)]


def tree_advantages(
    leaves: Sequence[Node],
    rewards: Sequence[float],
    *,
    strategy: Literal["average", "group_size"] = "average",
    remove_flat: bool = False,
) -> list[float]:
    """One advantage per trajectory: its reward against those that share its first j segments, over all j.

        A_ij = r_i - mean of the rewards in G_j(i), the trajectories that agree with i on their first j segments
        A_i  = the mean of A_ij over j ("average", used in the paper's training), or their mean weighted by |G_j(i)|
               ("group_size", the default of the published function)

    for j = 0 (all trajectories) and each further depth at which the group still has two members or more. With
    `remove_flat` groups whose rewards are all alike are left out; a trajectory without any group has advantage 0. No
    division by a standard deviation, and no whitening: that is the trainer's.
    """
    if strategy not in ("average", "group_size"):
        raise ValueError(f"strategy {strategy!r} is neither 'average' nor 'group_size'")
    groups: dict[Node, list[float]] = defaultdict(list)
    for leaf, reward in zip(leaves, rewards, strict=True):
        for node in leaf.path()[:-1]:
            groups[node].append(reward)
    advantages = []
    for leaf, reward in zip(leaves, rewards, strict=True):
        around = [groups[node] for node in leaf.path()[:-1] if node.parent is None or len(groups[node]) > 1]
        if remove_flat:
            around = [group for group in around if min(group) < max(group)]
        weights = [1 if strategy == "average" else len(group) for group in around]
        terms = [(reward - _mean(group)) * weight for group, weight in zip(around, weights, strict=True)]
        advantages.append(math.fsum(terms) / max(sum(weights), 1))
    return advantages


def segment_progress(leaves: Sequence[Node], rewards: Sequence[float], decay: float = 1.0) -> dict[Node, float]:
    """One number per segment: by how much it changed what was to be expected.

    The value of a leaf is its reward, that of any other node the mean over its children, a child counted as often as
    it was drawn; a segment's progress is the value of its node less that of the parent, times decay**(depth - 1)
    (where the published code has its decay could not be read; 1, for none, is safe). Progress along a path adds up to
    the reward of its leaf less the value of the root, without decay.
    """
    given: dict[Node, list[float]] = defaultdict(list)
    for leaf, reward in zip(leaves, rewards, strict=True):
        given[leaf].append(reward)
    nodes = dict.fromkeys(node for leaf in given for node in leaf.path())
    values: dict[Node, float] = {}
    for node in sorted(nodes, key=lambda node: -node.depth):
        if node in given:
            values[node] = _mean(given[node])
        else:
            below = [(values[child], child.times) for child in node.children if child in values]
            values[node] = math.fsum(v * n for v, n in below) / sum(n for _, n in below)
    return {n: (values[n] - values[n.parent]) * decay ** (n.depth - 1) for n in nodes if n.parent is not None}


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)
