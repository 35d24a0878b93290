"""The slot pool and radix tree against a dictionary of sequences."""

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from policies.engine.kv import KV

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple)


def pool(slots: int) -> KV:
    return KV(1, 1, 2, slots, torch.float32)


def fill(kv: KV, ids: tuple[int, ...]) -> None:
    """Hold `ids`, each slot marked with a number that stands for the prefix it ends."""
    found = kv.match(ids).slots
    slots = np.concatenate((found, kv.take(len(ids) - len(found))))
    for i in range(len(found), len(ids)):
        kv.data[0, slots[i]] = mark(ids[: i + 1])
    kv.give(kv.insert(ids, slots).spare)


def mark(ids: tuple[int, ...]) -> float:
    return float(hash(ids) % 10007)


class Sequences(RuleBasedStateMachine):
    """Every slot found for a prefix holds what was computed for that very prefix, whatever happened in between."""

    locks = Bundle("locks")

    @initialize(slots=st.integers(12, 40))
    def begin(self, slots: int) -> None:
        self.kv = pool(slots)
        self.seen: set[tuple[int, ...]] = set()
        self.locked: list[tuple[int, ...]] = []

    @rule(ids=IDS)
    def hold(self, ids: tuple[int, ...]) -> None:
        found = self.kv.match(ids)
        self.kv.lock(found.edge)
        missing = len(ids) - len(found.slots)
        if missing > self.kv.available:
            with pytest.raises(MemoryError):
                self.kv.take(missing)
            self.kv.unlock(found.edge)
            return
        slots = np.concatenate((found.slots, self.kv.take(missing)))
        self.kv.unlock(found.edge)
        for i in range(len(found.slots), len(ids)):
            self.kv.data[0, slots[i]] = mark(ids[: i + 1])
        inserted = self.kv.insert(ids, slots)
        assert len(inserted.spare) == 0
        assert len(self.kv.match(ids).slots) == len(ids)
        self.seen |= {ids[: i + 1] for i in range(len(ids))}

    @rule(ids=IDS)
    def hold_computed_twice(self, ids: tuple[int, ...]) -> None:
        found = self.kv.match(ids).slots
        if len(ids) > self.kv._left:
            return
        slots = self.kv.take(len(ids))
        for i in range(len(ids)):
            self.kv.data[0, slots[i]] = mark(ids[: i + 1])
        spare = self.kv.insert(ids, slots).spare
        assert spare.tolist() == slots[: len(found)].tolist()
        self.kv.give(spare)
        self.seen |= {ids[: i + 1] for i in range(len(ids))}

    @rule(target=locks, ids=IDS)
    def lock(self, ids: tuple[int, ...]) -> tuple:
        edge, slots, _ = self.kv.match(ids)
        self.kv.lock(edge)
        self.locked.append(ids[: len(slots)])
        return edge, ids[: len(slots)]

    @rule(held=consumes(locks))
    def unlock(self, held: tuple) -> None:
        self.kv.unlock(held[0])
        self.locked.remove(held[1])

    @rule(count=st.integers(0, 20))
    def evict(self, count: int) -> None:
        evictable = self.kv.held - self.kv.locked
        before = self.kv._left
        freed = self.kv.evict(count)
        assert min(count, evictable) <= freed <= evictable
        assert self.kv._left == before + freed

    @rule(ids=IDS, keep=st.integers(0, 9))
    def release(self, ids: tuple[int, ...], keep: int) -> None:
        before = len(self.kv.match(ids).slots)
        self.kv.release(ids, keep)
        assert len(self.kv.match(ids).slots) >= min(keep, before)

    @invariant()
    def right(self) -> None:
        if not hasattr(self, "kv"):
            return
        self.kv.check()
        for ids in self.seen:
            slots = self.kv.match(ids).slots
            assert self.kv.data[0, slots, 0, 0, 0].tolist() == [mark(ids[: i + 1]) for i in range(len(slots))]
        for ids in self.locked:
            assert len(self.kv.match(ids).slots) == len(ids), "what is locked stays"


Sequences.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSequences = Sequences.TestCase


def test_a_prefix_is_stored_once_however_many_continue_it():
    kv = pool(100)
    for last in range(20):
        fill(kv, (*range(10), 100 + last))
    assert kv.held == 30
    kv.check()


def test_the_least_recently_used_leaf_goes_first_and_takes_no_shared_part_along():
    kv = pool(100)
    for last in (50, 60, 70):
        fill(kv, (1, 2, 3, last))
    edge = kv.match((1, 2, 3, 50)).edge
    kv.lock(edge)
    kv.unlock(edge)
    assert kv.evict(1) == 1
    assert [len(kv.match((1, 2, 3, last)).slots) for last in (50, 60, 70)] == [4, 3, 4]
    assert kv.evict(100) == 5
    assert kv.held == 0
    kv.check()


def test_release_frees_only_what_nothing_else_needs():
    kv = pool(100)
    fill(kv, (1, 2, 3, 4, 5))
    fill(kv, (1, 2, 3, 9))
    assert kv.release((1, 2, 3, 4, 5), 4) == 1
    assert kv.release((1, 2, 3, 4), 0) == 1, "the rest is shared with the other sequence"
    assert kv.release((1, 2), 0) == 0, "something longer needs it"
    assert kv.release((1, 2, 3, 9), 0) == 4
    assert kv.held == 0
    kv.check()


def test_what_is_released_while_in_use_goes_first_afterwards():
    kv = pool(100)
    fill(kv, (1, 2, 3, 4))
    fill(kv, (1, 2, 9))
    held = kv.match((1, 2, 3, 4)).edge
    kv.lock(held)
    assert kv.release((1, 2, 3, 4), 3) == 0
    assert kv.evict(100) == 1 and len(kv.match((1, 2, 3, 4)).slots) == 4, "what is locked stays"
    fill(kv, (1, 2, 9))
    kv.unlock(held)
    kv.check()
    assert kv.evict(1) == 1
    assert [len(kv.match(ids).slots) for ids in ((1, 2, 3, 4), (1, 2, 9))] == [3, 3], "older and not released: stays"


def test_an_end_state_goes_with_its_slot():
    kv = pool(10)
    fill(kv, (1, 2))
    kv.ends[int(kv.match((1, 2)).slots[-1])] = torch.zeros(1)
    kv.evict(2)
    assert not kv.ends


@pytest.mark.parametrize("damage", ["free", "locks", "held"])
def test_check_notices_damage(damage):
    kv = pool(10)
    fill(kv, (1, 2, 3))
    if damage == "free":
        kv._free[0] = kv.match((1,)).slots[0]
    elif damage == "locks":
        kv.locked += 1
    else:
        kv.match((1, 2, 3)).edge.slots[0] = 9
    with pytest.raises(AssertionError):
        kv.check()
