"""Where trajectories fork and what they go back to, by hand."""

import math
import random
from collections import Counter

import pytest

from search.divergence import ALLOCATIONS, POSITIONS, SOURCES, fork, kept, likelihood, sources
from search.endings import Ending, Trajectory
from search.tree import Tree
from search.types import Segment


def path(*segments):
    """A node after segments of these log-probabilities."""
    tree = Tree(Segment((0,), "q"))
    node = tree.root
    for logprobs in segments:
        node = tree.add(node, Segment((1,) * len(logprobs), "a" * len(logprobs), tuple(logprobs)))
    return node


LIKELY, LONG, LATE = path([-0.1, -0.1]), path([-0.2, -0.2], [-0.2, -0.2]), path([-0.1], [-0.9])


def test_likelihoods():
    assert [likelihood(node, "") for node in (LIKELY, LONG, LATE)] == pytest.approx([-0.2, -0.8, -1.0])
    assert [likelihood(node, "norm_") for node in (LIKELY, LONG, LATE)] == pytest.approx([-0.1, -0.2, -0.5])
    assert [likelihood(node, "node_") for node in (LIKELY, LONG, LATE)] == pytest.approx([-0.1, -0.2, -0.9])


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("total", [3, 4, 11, 40])
def test_every_path_goes_on_and_the_sum_is_the_total(allocation, total):
    for rng in (random.Random(0), None):
        counts = fork([LIKELY, LONG, LATE], total, allocation, 0.5, rng)
        assert sum(counts) == total and min(counts) >= 1


def test_unlikely_paths_fork_more_and_inversely():
    weights = [math.exp(0.2 / 0.5), math.exp(0.8 / 0.5), math.exp(1.0 / 0.5)]
    wanted = [1 + 37 * w / sum(weights) for w in weights]
    counts = fork([LIKELY, LONG, LATE], 40, "logprob", 0.5, None)
    assert all(abs(count - x) < 1 for count, x in zip(counts, wanted, strict=True))
    assert counts == sorted(counts) and counts[0] < counts[2]
    assert fork([LIKELY, LONG, LATE], 40, "inverse_logprob", 0.5, None) == sorted(
        fork([LIKELY, LONG, LATE], 40, "inverse_logprob", 0.5, None), reverse=True
    )
    flat = fork([LIKELY, LONG, LATE], 40, "node_logprob", 1e9, None)
    assert max(flat) - min(flat) <= 1


def test_the_published_remainder_goes_to_the_last():
    assert fork([LIKELY] * 4, 11, "even", 1.0, None) == [2, 2, 2, 5]
    assert sorted(fork([LIKELY] * 4, 11, "even", 1.0, random.Random(1))) == [2, 3, 3, 3]


FINISHED = [
    Trajectory(LIKELY, Ending.REPETITION, 2),
    Trajectory(LONG, Ending.ANSWERED, 4),
    Trajectory(LATE, Ending.END, 2),
    Trajectory(LONG, Ending.TOKENS, 400),
]


def first(policy, runs=4000, length=0):
    rng = random.Random(0)
    return Counter(sources(FINISHED, policy, length, rng)[0] for _ in range(runs))


@pytest.mark.parametrize("policy", [policy for policy in SOURCES if policy != "none"])
def test_sources_are_finished_trajectories_each_once(policy):
    found = sources(FINISHED, policy, 3, random.Random(0))
    assert set(found) <= set(FINISHED) and len(set(found)) == len(found) > 0
    assert sources([], policy, 3, random.Random(0)) == []


def test_which_sources_come_first():
    by_priority = first("finished_first")
    for t in FINISHED:
        assert by_priority[t] == pytest.approx(4000 * t.ending / (2 + 7 + 5 + 3), abs=110)
    by_length = first("longer_first")
    assert by_length[FINISHED[3]] == pytest.approx(4000 * 400 / 408, abs=30)
    assert all(count == pytest.approx(1000, abs=100) for count in first("random_all").values())
    assert set(first("ended")) == {FINISHED[1], FINISHED[2]}
    assert [t.ending for t in sources(FINISHED, "finished_first_strict", 0, random.Random(0))] == [2, 3, 5, 7]
    assert sources(FINISHED, "long_answers", 4, random.Random(0)) == [FINISHED[1]]
    assert sources(FINISHED, "long_answers", 5, random.Random(0)) == []
    with pytest.raises(ValueError, match="no source"):
        sources(FINISHED, "none", 0, random.Random(0))


def test_how_much_is_kept():
    rng, node = random.Random(0), path([-0.1, -0.4, -0.1], [-2.0, -0.1, -0.1], [-0.1])
    trajectory = Trajectory(node, Ending.END, 7)

    def some(position, window=3, back=None, block=2):
        return Counter(kept(trajectory, position, window, back, block, rng) for _ in range(3000))

    assert set(some("from_start")) == {0}
    assert set(some("min_logprob_token")) == {3}
    whole = some("random")
    assert set(whole) == {0, 3, 6} and all(count == pytest.approx(1000, abs=100) for count in whole.values())
    assert set(some("random", back=1)) == {6} and set(some("random", back=2)) == {3, 6}
    assert set(some("random", window=2)) == {0, 2, 4, 6}
    means = [-0.25, -1.05, -0.1, -0.1]
    for position, sign in (("block", -1), ("inverse_block", 1)):
        mass = [math.exp(sign * mean) for mean in means]
        found = some(position)
        for i, m in enumerate(mass):
            assert found[2 * i] == pytest.approx(3000 * m / sum(mass), abs=100)
    for position in POSITIONS:
        assert kept(trajectory, position, 5, None, 4, rng) < 7
        assert kept(Trajectory(path(), Ending.END, 0), position, 5, None, 4, rng) == 0
