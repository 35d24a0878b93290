"""What verifiers are trained on, from finished trees: functions that return rows and change nothing.

All take a finished tree and `right`, which says of a complete path whether its answer is right (a path cut by a token
limit is never asked and counts as wrong). Steps are texts without the blanks around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.errors import ConfigError
from search.events import Event, Simulated
from search.tree import Node, Tree
from search.types import Prefix, Segment

Right = Callable[[Prefix], bool]


@dataclass(frozen=True)
class Trace:
    """A path with one target in [0, 1] per step; `right` tells whether its answer is."""

    question: str
    steps: tuple[str, ...]
    values: tuple[float, ...]
    right: bool


@dataclass(frozen=True)
class State:
    """A prefix with its target in [0, 1]; `action` is the next step that the target stands for, where there is one."""

    question: str
    steps: tuple[str, ...]
    value: float
    action: str | None = None


def simulations(events: Iterable[Event]) -> dict[int, tuple[Segment, ...]]:
    """By node, the completions that a search drew from it without adding them to the tree (`Session.simulate`)."""
    found: dict[int, tuple[Segment, ...]] = {}
    for event in events:
        if isinstance(event, Simulated):
            found[event.node] = (*found.get(event.node, ()), *event.segments)
    return found


def step_labels(
    tree: Tree, right: Right, *, hard: bool = False, simulated: Mapping[int, Sequence[Segment]] | None = None
) -> list[Trace]:
    """Monte-Carlo labels of steps (Math-Shepherd, Wang et al. 2024, arXiv 2312.08935, equations 3 and 4).

    The soft label of a step is the share of the completions after it whose answer is right; the hard one is 1 where
    any is. Completions are the ended paths below it in the tree, as often as they were drawn, and `simulated` ones. One
    trace per ended path of the tree, oldest first.
    """
    verdicts = _verdicts(tree, right)
    counts = {node.id: [0, 0] for node in tree}  # right ones, all
    for node in tree:
        drawn = [(verdicts[node.id], node.times)] if node.terminal else []
        for segment in (simulated or {}).get(node.id, ()):
            ended = Node(-1, node, segment, node.prefix + segment)
            drawn.append((ended.complete and right(ended.prefix), 1))
        for good, times in drawn:
            for above in node.path():
                counts[above.id][0] += good * times
                counts[above.id][1] += times

    def label(node: Node) -> float:
        good, every = counts[node.id]
        return float(good > 0) if hard else good / every

    ends = [node for node in tree if node.terminal]
    return [
        Trace(_question(end), _steps(end), tuple(map(label, _written(end))), verdicts[end.id])
        for end in ends
        if _written(end)
    ]


def value_targets(tree: Tree, right: Right) -> list[State]:
    """Targets of a value model by the distance to a right answer (ReST-MCTS*, Zhang et al. 2024, arXiv 2406.03816).

    v(child) = max(0, v + (1 - v) r / m): v of the parent, 0 at the root; r is 1 where a right answer follows, else -1;
    m counts the steps to the nearest right answer, this one included, and for a wrong path those of the place where it
    left a right one. As in the published code: nodes that no ended path goes through give no row, and a tree without a
    right answer gives none at all. (The paper writes the same with its own m, one less.)
    """
    verdicts = _verdicts(tree, right)
    distance: dict[int, int] = {}
    for node in reversed(tree.nodes):  # children come after their parents
        below = [distance[child.id] + 1 for child in node.children if child.id in distance]
        if verdicts[node.id]:
            below.append(1)
        if below:
            distance[node.id] = min(below)
    if tree.root.id not in distance:
        return []
    sound = set(distance)
    for end in (node for node in tree if node.terminal and node.id not in sound):
        path = end.path()
        known = next(node for node in reversed(path) if node.id in sound)
        for node in path[path.index(known) + 1 :]:
            distance[node.id] = distance[known.id]
    values = {tree.root.id: 0.0}
    rows = []
    for node in tree.nodes[1:]:
        if node.id in distance and node.parent is not None:
            before = values[node.parent.id]
            sign = 1 if node.id in sound else -1
            values[node.id] = max(0.0, before + (1 - before) * sign / distance[node.id])
            if _written(node):
                rows.append(State(_question(node), _steps(node), values[node.id]))
    return rows


def td_lambda(values: Sequence[float], outcome: float, gamma: float = 1.0, lam: float = 0.8) -> list[float]:
    """TD(lambda) returns along one path, in [0, 1] (FETCH, Wang et al. 2025, arXiv 2502.11183, section 4).

    The reward is `outcome`, at the last step, and the return is the value plus the generalised advantage
    sum over l of (gamma lam)^l delta(t + l), delta(t) = r(t) + gamma v(t + 1) - v(t), cut to the range of the outcome.
    With lam = 1 and gamma = 1 it is the outcome, with lam = 0 the next value. There values are in [-1, 1]; with
    gamma = 1 the scale makes no difference.

    Args:
        values: of the steps, in [0, 1], by the verifier that is trained.
    """
    _check_unit(gamma=gamma, lam=lam, outcome=outcome)
    returns, advantage = [0.0] * len(values), 0.0
    for t in range(len(values) - 1, -1, -1):
        last = t == len(values) - 1
        delta = (outcome if last else gamma * values[t + 1]) - values[t]
        advantage = delta + gamma * lam * advantage
        returns[t] = min(max(advantage + values[t], 0.0), 1.0)
    return returns


def td_targets(tree: Tree, right: Right, gamma: float = 1.0, lam: float = 0.8) -> list[Trace]:
    """`td_lambda` for every ended path of the tree whose nodes all have a score; one trace each, oldest first."""
    verdicts = _verdicts(tree, right)
    rows = []
    for end in (node for node in tree if node.terminal):
        path = _written(end)
        if path and all(node.scored for node in path):
            returns = td_lambda([node.score for node in path], float(verdicts[end.id]), gamma, lam)
            rows.append(Trace(_question(end), _steps(end), tuple(returns), verdicts[end.id]))
    return rows


def lookahead_targets(tree: Tree, right: Right | None = None, gamma: float = 1.0) -> list[State]:
    """One-step look-ahead (self-taught look-ahead, Mendes and Ritter 2025, arXiv 2503.02878): a Bellman backup.

    The target of an expanded node is gamma times the best value of its children, and `action` is the step that leads
    there; the value of a child is its score, or, with `right`, 1 or 0 where its path has ended. Nodes with a child that
    has neither give no row. Repeated with a verifier trained on it, this is value iteration.
    """
    _check_unit(gamma=gamma)
    verdicts = _verdicts(tree, right) if right else {}
    rows = []
    for node in tree:
        values = [float(verdicts[child.id]) if right and child.terminal else child.score for child in node.children]
        if values and not any(map(math.isnan, values)):
            best = max(range(len(values)), key=values.__getitem__)
            text = node.children[best].segment.text.strip()
            rows.append(State(_question(node), _steps(node), gamma * values[best], text))
    return rows


def math_shepherd_row(trace: Trace, task: str, tag: str = "ки") -> dict[str, str]:
    """The row of the Math-Shepherd data for a trace with hard labels: `input` with tags, `label` with + or -."""
    steps = [f"Step {number}: {step}" for number, step in enumerate(trace.steps, 1)]
    signs = ["+" if value >= 0.5 else "-" for value in trace.values]
    marked = "\n".join(f"{step} {tag}" for step in steps)
    labelled = "\n".join(f"{step} {sign}" for step, sign in zip(steps, signs, strict=True))
    return {"input": f"{trace.question} {marked}", "label": f"{trace.question} {labelled}", "task": task}


def math_aps_row(trace: Trace, answer: str) -> dict[str, Any]:
    """The row of the MATH-APS data for a trace with soft labels: every beginning with its Monte-Carlo value."""
    begun = ["\n\n".join((trace.question, *trace.steps[: count + 1])) for count in range(len(trace.steps))]
    steps = [{"solution_prefix": text, "mc_value": value} for text, value in zip(begun, trace.values, strict=True)]
    return {"question": trace.question, "final_answer": answer, "reasoning_steps": steps}


def _verdicts(tree: Tree, right: Right) -> dict[int, bool]:
    return {node.id: node.complete and bool(right(node.prefix)) for node in tree}


def _question(node: Node) -> str:
    return node.prefix.question or node.prefix.prompt.text


def _written(node: Node) -> list[Node]:
    """The nodes of the path that have a step's text."""
    return [above for above in node.path()[1:] if above.segment.text.strip()]


def _steps(node: Node) -> tuple[str, ...]:
    return tuple(above.segment.text.strip() for above in _written(node))


def _check_unit(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise ConfigError(name, value, "give a number in [0, 1]")
