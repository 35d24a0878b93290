"""Keys and values of token prefixes: one pool of slots, and a radix tree over token ids that says what they hold.

A slot holds the keys and values of one token in all layers. The tree never copies: a prefix is stored once,
however many sequences continue it. Slots are in one of three hands: free, lent (to a running row), or held (by
the tree). Slot 0 belongs to nobody: it takes writes that nothing will read, and pads the slot tables.

The tree is the radix cache of SGLang (Zheng et al. 2024, "Efficiently Programming Large Language Models using
SGLang", section 3) with node-wise locks and leaf-first least-recently-used eviction.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

FREE, LENT, HELD = 0, 1, 2
LINE = 64  # bytes


class Edge:
    """A run of tokens below `parent`; a node of the radix tree together with the edge that leads to it.

    `locks` counts its own and one for each child that has some. `used` is when it was last used; those above it were
    used no earlier, whatever theirs say: they get it when it goes.
    """

    __slots__ = ("children", "locks", "parent", "slots", "tokens", "used")

    def __init__(self, tokens: tuple[int, ...], slots: np.ndarray, parent: Edge | None, used: int):
        self.tokens, self.slots, self.parent, self.used = tokens, slots, parent, used
        self.children: dict[int, Edge] = {}
        self.locks = 0


class Match(NamedTuple):
    """The longest cached prefix: its deepest edge, of which it covers `inside` tokens, and its slots, one per token."""

    edge: Edge
    slots: np.ndarray  # int64 [length]
    inside: int


class Inserted(NamedTuple):
    """The edge at which an inserted sequence ends, and the caller's slots that the tree did not need."""

    edge: Edge
    spare: np.ndarray  # int64


class KV:
    """The pool and the tree. Not thread-safe: one worker owns it.

    Args:
        layers, heads, width: of the model's keys and values (`heads` are key/value heads).
        slots: tokens that fit, slot 0 not counted.

    Attributes:
        data: [layers, slots + 1, 2, heads, width]; keys at index 0, values at 1.
        ready: bool [slots + 1]; whether a slot's contents are computed, or will be in the forward being planned.
        ends: final hidden states, by slot, of tokens at which a prompt ended: sampling there again costs no forward.
            Of the latest `slots` / 64 (256 at least), so that they take little beside the keys and values.
    """

    def __init__(self, layers: int, heads: int, width: int, slots: int, dtype: torch.dtype, device: str = "cpu"):
        shape = (layers, slots + 1, 2, heads, width)
        # zeros, not empty: padded reads are masked, but 0 * nan would still be nan
        if device == "cpu":
            # numpy's zeros are pages that the system maps when they are first written; torch writes them all now
            size = math.prod(shape) * dtype.itemsize
            lent = np.zeros(size + LINE, np.uint8)
            begin = -lent.ctypes.data % LINE  # a vector that lies across two lines of the cache is read twice as slowly
            self.data = torch.from_numpy(lent[begin : begin + size]).view(dtype).view(shape)
        else:
            self.data = torch.zeros(shape, dtype=dtype, device=device)
        self.slots = slots
        self.clear()

    def clear(self) -> None:
        """Forget everything (mutates)."""
        self.root = Edge((), np.empty(0, np.int64), None, 0)
        self.ready = np.zeros(self.slots + 1, bool)
        self.ends: dict[int, torch.Tensor] = {}
        self._owner = np.zeros(self.slots + 1, np.int8)
        self._free = np.arange(self.slots, 0, -1)  # a stack: the first `_left` entries are free
        self._left = self.slots
        self._clock = 0
        self.held = 0  # tokens in the tree
        self.locked = 0  # of these, tokens on edges in use

    @property
    def available(self) -> int:
        """Slots that are free or can be freed by `evict` (pure)."""
        return self._left + self.held - self.locked

    def match(self, ids: Sequence[int]) -> Match:
        """The longest prefix of `ids` in the tree (pure); valid until the next mutation unless locked."""
        edge, at, same, found = self.root, 0, 0, []
        while at < len(ids) and (child := edge.children.get(ids[at])) is not None:
            same = _common(child.tokens, ids, at)
            edge, at = child, at + same
            found.append(child.slots[:same])
            if same < len(child.tokens):
                break
        return Match(edge, np.concatenate(found) if found else np.empty(0, np.int64), same)

    def fork(self, match: Match) -> Edge:
        """The edge that ends where a match does; one is split if none does (mutates)."""
        inside = match.inside < len(match.edge.tokens)
        return self._split(match.edge, match.inside) if inside else match.edge

    def lock(self, edge: Edge) -> None:
        """Protect `edge` and all above it from eviction, once more (mutates counts only); marks it as used now."""
        self._clock += 1
        edge.used = self._clock
        for e in _up(edge):
            e.locks += 1
            if e.locks > 1:  # what is above is locked through this one already
                return
            self.locked += len(e.tokens)

    def unlock(self, edge: Edge) -> None:
        """Undo one `lock` of the same edge (mutates counts only)."""
        for e in _up(edge):
            e.locks -= 1
            if e.locks:
                return
            self.locked -= len(e.tokens)

    def insert(self, ids: Sequence[int], slots: np.ndarray, below: Edge | None = None) -> Inserted:
        """Hold `ids`; `slots` (one per id) pass to the tree where it has no own (mutates; the result is not locked).

        Slots that are already the tree's are recognised; lent slots for tokens which the tree holds elsewhere come
        back as `spare` and stay lent. With `below`, `ids` and `slots` are what follows the end of that edge.
        """
        self._clock += 1
        edge, at, spare = below or self.root, 0, []
        while at < len(ids):
            child = edge.children.get(ids[at])
            if child is None:
                new = np.array(slots[at:], np.int64)
                child = edge.children[ids[at]] = Edge(tuple(ids[at:]), new, edge, self._clock)
                self._owner[new] = HELD
                self.held += len(new)
                edge, at = child, len(ids)
                break
            same = _common(child.tokens, ids, at)
            if same < len(child.tokens):
                child = self._split(child, same)
            own, given = child.slots, slots[at : at + same]
            spare.append(given[given != own])
            edge, at = child, at + same
        edge.used = self._clock
        return Inserted(edge, np.concatenate(spare) if spare else np.empty(0, np.int64))

    def _split(self, tail: Edge, at: int) -> Edge:
        # The tail stays the same object, so whoever locked it still unlocks the whole path.
        head = Edge(tail.tokens[:at], tail.slots[:at], tail.parent, tail.used)
        head.locks = 1 if tail.locks else 0
        assert tail.parent is not None
        tail.parent.children[head.tokens[0]] = head
        tail.tokens, tail.slots, tail.parent = tail.tokens[at:], tail.slots[at:], head
        head.children[tail.tokens[0]] = tail
        return head

    def mark(self, slot: int, state: torch.Tensor) -> None:
        """A prompt ended at `slot`, with this final hidden state (mutates)."""
        self.ends[slot] = state
        if len(self.ends) > max(256, self.slots // 64):
            del self.ends[next(iter(self.ends))]

    def take(self, count: int) -> np.ndarray:
        """Lend `count` slots, evicting what is needed (mutates).

        Raises:
            MemoryError: fewer than `count` are available.
        """
        if count > self._left:
            # some more than needed, so that a full pool is not walked for every token
            self.evict(max(count - self._left, self.slots // 32))
            if count > self._left:
                raise MemoryError(f"{count} slots wanted, {self._left} left")
        self._left -= count
        slots = self._free[self._left : self._left + count][::-1].copy()
        self._owner[slots] = LENT
        self.ready[slots] = False
        return slots

    def give(self, slots: np.ndarray) -> None:
        """Take back lent slots (mutates)."""
        if len(slots) == 0:
            return
        self._owner[slots] = FREE
        self._free[self._left : self._left + len(slots)] = slots
        self._left += len(slots)
        if self.ends:
            for slot in slots.tolist():
                self.ends.pop(slot, None)

    def evict(self, count: int) -> int:
        """Free at least `count` held slots if so many are unlocked, least recently used leaves first (mutates).

        Returns:
            The number freed; it may exceed `count` (whole edges go) or be less (the rest is locked).
        """
        leaves = [(e.used, id(e), e) for e in self._edges() if not e.children and not e.locks]
        heapq.heapify(leaves)
        freed = 0
        while leaves and freed < count:
            _, _, edge = heapq.heappop(leaves)
            freed += len(edge.tokens)
            parent = self._drop(edge)
            if parent is not self.root and not parent.children and not parent.locks:
                heapq.heappush(leaves, (parent.used, id(parent), parent))
        return freed

    def release(self, ids: Sequence[int], keep: int) -> int:
        """Free what is held for `ids[keep:]` and for nothing else (mutates). Returns the tokens freed.

        What is in use stays, and is the first to be evicted once it is not.
        """
        edge, slots, _ = self.match(ids)
        end = freed = 0
        for e in _up(edge):
            end += len(e.tokens)
        if end > len(slots):  # `ids` ends inside an edge: something longer needs it
            return 0
        while edge is not self.root and not edge.children and end > keep:
            start = end - len(edge.tokens)
            if start < keep:
                self._split(edge, keep - start)  # `edge` is now what lies beyond
            assert edge.parent is not None
            if edge.locks:
                edge.parent.used, edge.used = max(edge.parent.used, edge.used), 0
                break
            freed += len(edge.tokens)
            end -= len(edge.tokens)
            edge = self._drop(edge)
        return freed

    def _drop(self, edge: Edge) -> Edge:
        assert edge.parent is not None
        del edge.parent.children[edge.tokens[0]]
        edge.parent.used = max(edge.parent.used, edge.used)
        self.held -= len(edge.tokens)
        self.give(edge.slots)
        return edge.parent

    def _edges(self) -> Iterator[Edge]:
        stack = list(self.root.children.values())
        while stack:
            edge = stack.pop()
            yield edge
            stack.extend(edge.children.values())

    def check(self) -> None:
        """Verify every invariant (pure; O(size)).

        Raises:
            AssertionError: one is broken.
        """
        held, locked = [], 0
        for edge in self._edges():
            assert edge.tokens and len(edge.tokens) == len(edge.slots), "an edge holds one slot per token"
            assert edge.parent is not None and edge.parent.children[edge.tokens[0]] is edge, "links agree"
            assert edge.locks >= sum(child.locks > 0 for child in edge.children.values()), "locks cover the path"
            held.extend(edge.slots.tolist())
            locked += len(edge.tokens) if edge.locks else 0
        free = self._free[: self._left].tolist()
        assert len(set(held)) == len(held) == self.held, "a slot is held once"
        assert len(set(free)) == len(free), "a slot is free once"
        assert locked == self.locked, "the count of locked tokens is right"
        assert (self._owner[held] == HELD).all() and (self._owner[free] == FREE).all(), "owners are right"
        lent = int((self._owner == LENT).sum())
        assert self._owner[0] == FREE and 0 not in held and 0 not in free, "slot 0 is nobody's"
        assert len(held) + len(free) + lent == self.slots, "every slot is in one hand"
        assert all(self._owner[slot] != FREE for slot in self.ends), "no end outlives its slot"


def _up(edge: Edge) -> Iterator[Edge]:
    while edge.parent is not None:
        yield edge
        edge = edge.parent


def _common(tokens: tuple[int, ...], ids: Sequence[int], at: int) -> int:
    part = tuple(ids[at : at + len(tokens)])
    if part == tokens:
        return len(tokens)
    return next((i for i, (a, b) in enumerate(zip(tokens, part, strict=False)) if a != b), min(len(tokens), len(part)))
