"""Who runs next: calls become prefills and rows, under a limit of rows, of memory, and of tokens per forward.

Owners (searches) take turns, and the calls of one are admitted first come, first served, some draws at a time, when the
memory they may need at most is there; so a running row never has to be thrown out, and whatever waits holds nothing.
Whose turn it is gets memory before all others, so that a large call does not wait for ever. A prompt enters the prefix
tree when it is admitted, before it is computed: a later prompt with the same beginning finds it there and computes only
the rest, in the same forward or after it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from policies.engine.kv import KV, Edge
from policies.engine.turns import Turns

TURN = 16  # draws of one call that are admitted before another owner has a turn

Watch = Callable[[int], bool]


@dataclass(slots=True)
class Tally:
    """What a call cost: prompt tokens computed and found, tokens sampled and guessed, seconds of model time."""

    prefilled: int = 0
    reused: int = 0
    generated: int = 0
    drafted: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Draw:
    """One sampled continuation; `finish` is "end" (an end token, the last of `tokens`), "stop" or "length"."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str


@dataclass(slots=True, eq=False)
class Call:
    """What is asked of the engine, and how far it is.

    Attributes:
        ids: the prompt, at least one token.
        limit: tokens in a draw; the prompt and a draw fit the context.
        watch: makes one watcher per draw; told each token but end tokens, it says whether the draw stops there.
        start: for a reading call, the first position whose head output is wanted; -1 for a sampling call.
        targets: a reading call with targets wants log-probabilities instead of the head's output: of the target at
            each position, one per position read, and of the likeliest token there.
        owner: who shares the engine with whom; owners take turns.
    """

    ids: tuple[int, ...]
    future: asyncio.Future[Any]
    seeds: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    limit: int = 0
    ends: frozenset[int] = frozenset()
    watch: Callable[[], Watch] | None = None
    start: int = -1
    targets: tuple[int, ...] = ()
    owner: Hashable = None
    draws: list[Draw | None] = field(default_factory=list)
    begun: int = 0  # draws admitted
    tally: Tally = field(default_factory=Tally)
    over: bool = False


@dataclass(slots=True, eq=False)
class Row:
    """A draw that runs; `index` is its line in the scheduler's tables."""

    call: Call
    draw: int
    index: int
    edge: Edge
    watch: Watch | None


@dataclass(slots=True, eq=False)
class Prefill:
    """Prompt tokens to compute: ids[done:], some per forward; then `rows` draw their first token.

    Attributes:
        slots: int64 [len(ids)], where each token's keys and values are or will be.
        cached: tokens found in the tree; those from `done` on are computed again for their output only.
    """

    call: Call
    slots: np.ndarray
    cached: int
    done: int
    edge: Edge
    rows: list[Row] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    chunk: int = 0  # tokens in the forward being planned


class Scheduler:
    """Queues, the slot table, and per-row numbers as arrays, so that a step costs few Python operations per row."""

    def __init__(self, kv: KV, rows: int, budget: int):
        self.kv, self.budget = kv, budget
        self.waiting: Turns[Call] = Turns()
        self.prefills: list[Prefill] = []
        self.running: list[Row] = []  # rows with at least one token drawn
        self.fresh: list[tuple[Row, torch.Tensor]] = []  # rows whose first distribution is already known
        self.promised = 0  # slots that running rows may still need
        self._spare = list(range(rows - 1, -1, -1))
        self._by_end: dict[int, Prefill] = {}
        self.table: np.ndarray = np.zeros((rows, 64), np.int64)
        self.tokens: np.ndarray = np.zeros((rows, 64), np.int64)
        self.logprobs: np.ndarray = np.zeros((rows, 64), np.float64)
        self.length = np.zeros(rows, np.int64)  # tokens of the sequence that have a slot
        self.count = np.zeros(rows, np.int64)  # tokens drawn
        self.limit = np.zeros(rows, np.int64)
        self.seed = np.zeros(rows, np.int64)
        self.temperature = np.zeros(rows, np.float64)
        self.top_k = np.zeros(rows, np.int64)
        self.top_p = np.zeros(rows, np.float64)
        self.seconds = np.zeros(rows, np.float64)

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.prefills or self.running or self.fresh)

    def admit(self) -> None:
        """Start what fits (mutates)."""
        while (call := self.waiting.head()) is not None:
            if not (self._admit_reading(call) if call.start >= 0 else self._admit_draws(call)):
                return
            self.waiting.served(wholly=call.begun == len(call.seeds))

    def _admit_reading(self, call: Call) -> bool:
        job = self._open(call, call.start, 0)
        if job is None:
            return False
        call.tally.reused += job.done
        call.tally.prefilled += len(call.ids) - job.done
        return True

    def _admit_draws(self, call: Call) -> bool:
        """Whether draws of the call have started."""
        if not self._spare:
            return False
        kv, size = self.kv, len(call.ids)
        match = kv.match(call.ids)
        whole = len(match.slots) == size
        end = int(match.slots[-1]) if whole else -1
        hidden = kv.ends.get(end) if whole and kv.ready[end] else None
        job = self._by_end.get(end) if whole else None
        first = call.begun == 0
        if hidden is None and job is None:
            job = self._open(call, size - 1, call.limit - 1)
            if job is None:
                return False
            computed, edge = size - job.done, job.edge
        else:
            computed, edge = 0, kv.insert(call.ids, match.slots).edge  # split where the prompt ends
        if first or computed:
            call.tally.prefilled += computed
            call.tally.reused += size - computed
        slots = match.slots if job is None else job.slots
        before, last = call.begun, min(call.begun + TURN, len(call.seeds))
        kv.lock(edge)  # what is matched must not count as free while draws are weighed against it
        while call.begun < last and self._spare and kv.available - self.promised >= call.limit - 1:
            row = self._row(call, edge, slots)
            if job is None:
                assert hidden is not None
                self.fresh.append((row, hidden))
            else:
                job.rows.append(row)
        kv.unlock(edge)
        return call.begun > before

    def _open(self, call: Call, first: int, more: int) -> Prefill | None:
        """A prefill of the call's prompt with outputs from position `first` on; None if it and `more` do not fit."""
        kv, ids = self.kv, call.ids
        found = kv.match(ids).slots
        cached = len(found)
        shared = kv.insert(ids[:cached], found).edge  # splits where the match ends, so that the lock covers no more
        kv.lock(shared)
        if kv.available - self.promised < len(ids) - cached + more:
            kv.unlock(shared)
            return None
        slots = np.concatenate((found, kv.take(len(ids) - cached)))
        edge = kv.insert(ids, slots).edge
        kv.lock(edge)
        kv.unlock(shared)
        job = Prefill(call, slots, cached, min(cached, first), edge)
        self.prefills.append(job)
        self._by_end[int(slots[-1])] = job
        return job

    def _row(self, call: Call, edge: Edge, slots: np.ndarray) -> Row:
        i, size = self._spare.pop(), len(slots)
        self._widen(size + call.limit)
        self.kv.lock(edge)
        self.promised += call.limit - 1
        self.table[i, :size] = slots
        self.length[i], self.count[i], self.limit[i], self.seconds[i] = size, 0, call.limit, 0.0
        self.seed[i], self.temperature[i] = call.seeds[call.begun], call.temperature
        self.top_k[i], self.top_p[i] = call.top_k, call.top_p
        row = Row(call, call.begun, i, edge, call.watch() if call.watch else None)
        call.begun += 1
        return row

    def _widen(self, need: int) -> None:
        if need > self.table.shape[1]:
            more = (1 << math.ceil(math.log2(need))) - self.table.shape[1]
            self.table = np.pad(self.table, ((0, 0), (0, more)))
            self.tokens = np.pad(self.tokens, ((0, 0), (0, more)))
            self.logprobs = np.pad(self.logprobs, ((0, 0), (0, more)))

    def chunks(self) -> list[Prefill]:
        """The prefills that take part in the next forward, their `chunk` set (mutates `ready`)."""
        left, ready = self.budget - len(self.running), self.kv.ready
        chosen: list[Prefill] = []
        for job in self.prefills:
            # a prompt whose beginning another prefill computes waits until that is computed or in this very forward
            if left < 1 and chosen:
                break
            if not ready[job.slots[: max(job.done, job.cached)]].all():
                continue
            job.chunk = min(len(job.slots) - job.done, max(left, 1))
            left -= job.chunk
            ready[job.slots[job.done : job.done + job.chunk]] = True
            chosen.append(job)
        return chosen

    def feed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slots for the last drawn token of each running row: (row indices, tokens, slots), each [rows] (mutates)."""
        rows = np.fromiter((row.index for row in self.running), np.int64, len(self.running))
        slots = self.kv.take(len(rows))
        self.promised -= len(rows)
        self.table[rows, self.length[rows]] = slots
        self.length[rows] += 1
        self.kv.ready[slots] = True
        return rows, self.tokens[rows, self.count[rows] - 1], slots

    def close(self, job: Prefill, hidden: torch.Tensor) -> None:
        """A prefill is computed; `hidden` [H] is its last token's state (mutates)."""
        self.prefills.remove(job)
        if self._by_end.get(end := int(job.slots[-1])) is job:
            del self._by_end[end]
        if job.call.start < 0:
            self.kv.ends[end] = hidden.clone()  # a view would keep the whole forward's output
        self.kv.unlock(job.edge)

    def end(self, row: Row, keep: bool) -> None:
        """A row leaves; what it drew and computed stays in the tree if `keep` (mutates)."""
        i, call, kv = row.index, row.call, self.kv
        size, drawn = int(self.length[i]), int(self.count[i])
        slots = self.table[i, :size].copy()
        if keep:
            ids = call.ids + tuple(self.tokens[i, : size - len(call.ids)].tolist())
            kv.give(kv.insert(ids, slots).spare)
        else:
            kv.give(slots[len(call.ids) :])
        kv.unlock(row.edge)
        self.promised -= int(self.limit[i]) - 1 - (size - len(call.ids))
        call.tally.generated += drawn
        call.tally.seconds += float(self.seconds[i])
        self._spare.append(i)

    def cut(self, row: Row, count: int) -> None:
        """Forget what was drawn after the first `count` tokens, of which the last has no slot yet (mutates)."""
        i = row.index
        size, length = len(row.call.ids) + count - 1, int(self.length[i])
        self.kv.give(self.table[i, size:length].copy())
        self.promised += length - size
        self.length[i], self.count[i] = size, count

    def drop(self, call: Call) -> None:
        """Forget a call's draws and what waits for it; a prompt being computed is finished for others (mutates)."""
        call.over = True
        gone = [row for row in self.running if row.call is call]
        gone += [row for row, _ in self.fresh if row.call is call]
        gone += [row for job in self.prefills for row in job.rows if row.call is call]
        self.running = [row for row in self.running if row.call is not call]
        self.fresh = [(row, hidden) for row, hidden in self.fresh if row.call is not call]
        for job in self.prefills:
            job.rows = [row for row in job.rows if row.call is not call]
        for row in gone:
            self.end(row, keep=False)
