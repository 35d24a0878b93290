"""Fixed draft trees against all trees there are; depths that a bandit settles on."""

import random
from itertools import product

import pytest

from policies.engine.bandit import ARMS, Bandit
from policies.engine.governor import Governor
from policies.engine.shape import optimal


def trees(size, depth, width):
    """What every tree of `size` guesses brings: functions of the profile, as lists of the ranks on the way."""
    if size == 0:
        return [[]]
    if depth == 0:
        return []
    found = []
    for split in product(range(size + 1), repeat=width):
        if sum(split) != size or any(a == 0 < b for a, b in zip(split, split[1:], strict=False)):
            continue
        parts = [[[]]]
        for rank, taken in enumerate(split):
            if taken:
                below = trees(taken - 1, depth - 1, width)
                parts.append([[(rank,), *((rank, *path) for path in tree)] for tree in below])
        found += [[path for part in some for path in part] for some in product(*parts)]
    return found


def brings(tree, profile):
    total = 0.0
    for path in tree:
        chance = 1.0
        for rank in path:
            chance *= profile[rank]
        total += chance
    return total


@pytest.mark.parametrize("profile", [(0.7, 0.2), (0.5, 0.4), (0.9, 0.05), (0.4, 0.3, 0.2), (0.6,)])
@pytest.mark.parametrize(("size", "depth"), [(1, 3), (4, 2), (5, 3)])
def test_no_tree_is_better(profile, size, depth):
    shape = optimal(profile, size, depth)
    all_trees = [tree for m in range(size + 1) for tree in trees(m, depth, len(profile))]
    assert shape.expected == pytest.approx(max(brings(tree, profile) for tree in all_trees))
    paths = {0: ()}
    for node, below in enumerate(shape.children):
        for rank, child in enumerate(below):
            paths[child] = (*paths[node], rank)
    assert len(paths) == len(shape.children) <= size + 1 and max(map(len, paths.values())) <= depth
    assert brings([path for path in paths.values() if path], profile) == pytest.approx(shape.expected)


def run(governor, speed, passes, rows=8, seed=0):
    """Depths in the second half of `passes`, in which a depth brings `speed(depth)` tokens a second."""
    rng, depths = random.Random(seed), []
    governor.cost.fixed = 0.001
    for i in range(passes):
        depth = governor.deepest if governor.wanted(rows) else 0
        tokens = rows * (1 + 0.6 * depth)
        seconds = tokens / speed(depth) * rng.uniform(0.85, 1.15) * (3 if rng.random() < 0.02 else 1)
        governor.observe(rows, depth > 0, rows * (depth + 1), 0, tokens, seconds, 0.0)
        depths += [depth] * (i >= passes // 2)
    return depths


@pytest.mark.parametrize("best", ARMS)
def test_the_bandit_finds_the_best_depth(best):
    depths = run(Bandit(), lambda depth: 1000 * 0.8 ** abs(ARMS.index(depth) - ARMS.index(best)), 1600)
    assert depths.count(best) > 0.75 * len(depths)


def test_a_bandit_hardly_tries_what_slows_everything_down():
    depths = run(Bandit(), lambda depth: 1000 / (1 + depth), 2000)
    assert depths.count(0) > 0.95 * len(depths) and max(depths) <= 2
    lost = sum(depth for depth in depths) / len(depths)
    assert lost < 0.05


def test_a_bandit_follows_a_change():
    bandit = Bandit()
    assert run(bandit, lambda depth: 1000 / (1 + depth), 600).count(0) > 200
    assert run(bandit, lambda depth: 1000 + 100 * depth, 3000)[-400:].count(12) > 300


def test_numbers_of_rows_have_bandits_of_their_own():
    bandit = Bandit()
    run(bandit, lambda depth: 1000 + 200 * depth, 1200, rows=1)
    assert set(run(bandit, lambda depth: 1000 / (1 + depth), 400, rows=64)) <= {0, 1}
    assert run(bandit, lambda depth: 1000 + 200 * depth, 200, rows=1).count(12) > 80


def test_a_governor_as_before_has_no_limit_of_depth():
    governor = Governor(forced=True)
    assert governor.wanted(3) and governor.deepest == max(ARMS)


def test_where_even_good_guesses_cannot_pay_none_are_tried():
    """Forwards whose time is that of their tokens, measured before the first: at many rows not a single trial."""
    governor = Governor()
    governor.cost.begin([(n, 0.06e-3 + n * 0.01e-3) for n in (1, 8, 64)])
    assert governor.cost.fixed == pytest.approx(0.06e-3, rel=0.1) and governor.cost.token == pytest.approx(
        1e-5, rel=0.1
    )
    for _ in range(3000):
        assert not governor.wanted(64)
        governor.observe(64, False, 64, 0, 64, 0.06e-3 + 64 * 0.01e-3, 0.0)
    tried = [governor.wanted(2) or governor.observe(2, False, 2, 0, 2, 0.08e-3, 0.0) for _ in range(30)]
    assert any(tried), "with few rows they are"
