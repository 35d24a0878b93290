"""Rendezvous hashing: even, steady when slots come and go, bounded in load."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from policies.pool.port import belongs
from policies.pool.routing import choose, ranked
from search.types import Prefix, Segment

KEYS = [str(i).encode() for i in range(4000)]


def test_every_slot_gets_its_share():
    counts = Counter(ranked(key, (0, 1, 2, 3))[0] for key in KEYS)
    assert set(counts) == {0, 1, 2, 3} and max(counts.values()) < 1.1 * 1000


def test_a_slot_that_leaves_moves_only_its_own_keys_and_evenly():
    before = {key: ranked(key, (0, 1, 2, 3)) for key in KEYS}
    after = {key: ranked(key, (0, 1, 3))[0] for key in KEYS}
    assert all(after[key] == before[key][0] for key in KEYS if before[key][0] != 2)
    moved = Counter(after[key] for key in KEYS if before[key][0] == 2)
    assert set(moved) == {0, 1, 3} and min(moved.values()) > 250
    assert all(after[key] == before[key][1] for key in KEYS if before[key][0] == 2), "to their second choice"


@given(
    st.binary(min_size=1, max_size=8),
    st.dictionaries(st.integers(0, 9), st.integers(0, 99), min_size=1),
    st.integers(0, 50),
)
def test_what_spills_over_goes_to_the_next_choice_within_the_bound(key, loads, spill):
    slot = choose(key, loads, spill)
    least = min(loads.values())
    assert loads[slot] <= least + spill
    for better in ranked(key, tuple(sorted(loads))):
        if better == slot:
            break
        assert loads[better] > least + spill


def test_a_prefix_belongs_where_its_parents_are():
    prompt, steps = Segment((1,), "q"), [Segment((i,), str(i)) for i in range(3)]
    path = [Prefix(prompt, tuple(steps[:n])) for n in range(4)]
    other = Prefix(prompt, (steps[1],))
    assert len({belongs(prefix, 0) for prefix in (*path, other)}) == 1
    assert belongs(path[1], 1) == belongs(path[3], 1) != belongs(other, 1)
