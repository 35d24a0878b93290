"""Training rows from a small tree, against numbers by hand and plain recomputation."""

import itertools
import json

import pytest

from search.errors import ConfigError
from search.events import Simulated
from search.tree import Tree
from search.types import Finish, Segment
from verifiers.targets import (
    State,
    Trace,
    lookahead_targets,
    math_aps_row,
    math_shepherd_row,
    simulations,
    step_labels,
    td_lambda,
    td_targets,
    value_targets,
)


def segment(text, finish=Finish.STEP):
    return Segment(tuple(map(ord, text)), text, (-1.0,) * len(text), finish)


@pytest.fixture
def tree():
    """root -> a -> (a1 right, drawn twice; a2 wrong), b -> (b1 cut), c (open)."""
    grown = Tree(segment("prompt"), "Q")
    a, b = grown.add(grown.root, segment("a\n\n")), grown.add(grown.root, segment("b\n\n"))
    grown.add(grown.root, segment("c\n\n"))
    grown.add(a, segment("a1 yes", Finish.END))
    grown.add(a, segment("a1 yes", Finish.END))
    grown.add(a, segment("a2 no", Finish.END))
    grown.add(b, segment("b1 yes", Finish.LENGTH))
    for node, score in zip(grown.nodes[1:], (0.6, 0.3, 0.5, 0.9, 0.2, 0.1), strict=True):
        node.score = score
    return grown


def right(prefix):
    return prefix.text.endswith("yes")


def test_monte_carlo_labels(tree):
    soft = step_labels(tree, right)
    assert soft == [
        Trace("Q", ("a", "a1 yes"), (2 / 3, 1.0), True),
        Trace("Q", ("a", "a2 no"), (2 / 3, 0.0), False),
        Trace("Q", ("b", "b1 yes"), (0.0, 0.0), False),
    ]
    assert [trace.values for trace in step_labels(tree, right, hard=True)] == [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]


def test_monte_carlo_labels_count_simulations(tree):
    b = tree.nodes[2]
    more = [Simulated(seq=0, seconds=0.0, node=b.id, segments=(segment("x yes", Finish.END),))]
    more += [
        Simulated(seq=1, seconds=0.0, node=b.id, segments=(segment("no", Finish.END), segment("yes", Finish.LENGTH)))
    ]
    found = simulations(more)
    assert len(found[b.id]) == 3
    assert step_labels(tree, right, simulated=found)[2].values == (1 / 4, 0.0)
    assert step_labels(tree, right, simulated=found, hard=True)[2].values == (1.0, 0.0)


def test_value_targets_follow_the_published_recursion(tree):
    rows = {row.steps[-1]: row.value for row in value_targets(tree, right)}
    # a: two steps to a right answer, 0 + 1/2; a1: 1/2 + 1/2 * 1/1; a2 left the path where m = 2: 1/2 - 1/2 * 1/2;
    # b and b1 left it at the root, where m = 3: max(0, -1/3); c was never ended
    assert rows == {"a": 0.5, "a1 yes": 1.0, "a2 no": 0.25, "b": 0.0, "b1 yes": 0.0}
    assert value_targets(tree, lambda prefix: False) == []


def test_value_targets_rise_evenly_on_a_right_path():
    line = Tree(segment("?"), "Q")
    node = line.root
    for i in range(4):
        node = line.add(node, segment(f"s{i}", Finish.END if i == 3 else Finish.STEP))
    assert [row.value for row in value_targets(line, lambda prefix: True)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def lambda_return(values, outcome, gamma, lam):
    """The forward view: the (1 - lam)-weighted mean of n-step returns."""
    size, targets = len(values), []
    for t in range(size):
        left = size - t
        steps = [gamma**n * values[t + n] for n in range(1, left)] + [gamma ** (left - 1) * outcome]
        weights = [(1 - lam) * lam ** (n - 1) for n in range(1, left)] + [lam ** (left - 1)]
        targets.append(sum(w * g for w, g in zip(weights, steps, strict=True)))
    return targets


@pytest.mark.parametrize(("gamma", "lam"), list(itertools.product((1.0, 0.9), (0.0, 0.5, 0.8, 1.0))))
def test_td_lambda_is_the_forward_view(gamma, lam):
    values = [0.3, 0.8, 0.1, 0.6]
    for outcome in (0.0, 1.0):
        assert td_lambda(values, outcome, gamma, lam) == pytest.approx(lambda_return(values, outcome, gamma, lam))
    assert td_lambda([], 1.0) == []


def test_td_targets_take_the_scores_of_a_path(tree):
    rows = td_targets(tree, right, lam=0.8)
    assert [row.right for row in rows] == [True, False, False]
    assert rows[0].values == pytest.approx(td_lambda([0.6, 0.9], 1.0))
    tree.nodes[2].score = float("nan")
    assert len(td_targets(tree, right)) == 2


def test_lookahead_takes_the_best_child(tree):
    rows = lookahead_targets(tree, gamma=0.5)
    assert rows == [State("Q", (), 0.3, "a"), State("Q", ("a",), 0.45, "a1 yes"), State("Q", ("b",), 0.05, "b1 yes")]
    graded = lookahead_targets(tree, right)
    assert [row.value for row in graded] == [0.6, 1.0, 0.0]


def test_lookahead_repeated_is_value_iteration():
    # a chain of three states with two actions each; the exact values are 1 all along the good ones
    grown = Tree(segment("?"), "Q")
    level = [grown.root]
    for depth in range(3):
        finish = Finish.END if depth == 2 else Finish.STEP
        level = [grown.add(node, segment(sign, finish)) for node in level for sign in "+-"]
    for node in grown.nodes[1:]:
        node.score = 0.5
    for _ in range(3):
        targets = {row.steps: row.value for row in lookahead_targets(grown, lambda p: p.text == "+++")}
        for node in grown.nodes[1:]:
            node.score = targets.get(tuple(node.prefix.text), node.score)
    assert [node.score for node in grown.nodes[1:7]] == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert targets[()] == 1.0


def test_rows_have_the_published_formats(tree):
    (first, *_) = step_labels(tree, right, hard=True)
    assert math_shepherd_row(first, "toy") == {
        "input": "Q Step 1: a ки\nStep 2: a1 yes ки",
        "label": "Q Step 1: a +\nStep 2: a1 yes +",
        "task": "toy",
    }
    row = math_aps_row(step_labels(tree, right)[0], "yes")
    assert json.loads(json.dumps(row)) == {
        "question": "Q",
        "final_answer": "yes",
        "reasoning_steps": [
            {"solution_prefix": "Q\n\na", "mc_value": 2 / 3},
            {"solution_prefix": "Q\n\na\n\na1 yes", "mc_value": 1.0},
        ],
    }


def test_ranges_are_checked(tree):
    for call in (
        lambda: td_lambda([0.5], 2.0), lambda: td_lambda([0.5], 1.0, gamma=-1), lambda: td_lambda([0.5], 1.0, lam=2),
        lambda: lookahead_targets(tree, gamma=2),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            call()
