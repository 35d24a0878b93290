"""Who runs next: calls become prefills and rows, under a limit of rows, of memory, and of tokens per forward.

Owners (searches) take turns, and the calls of one are admitted first come, first served, some draws at a time, when the
memory they may need at most is there; so a running row never has to be thrown out, and whatever waits holds nothing.
Whose turn it is gets memory before all others, so that a large call does not wait for ever. A prompt enters the prefix
tree when it is admitted, before it is computed: a later prompt with the same beginning finds it there and computes only
the rest, in the same forward or after it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from policies.engine.calls import Call, Prefill, Row, lines
from policies.engine.kv import KV, Edge, Match
from policies.engine.turns import Turns

__all__ = ["TURN", "Call", "Prefill", "Row", "Scheduler", "lines"]

TURN = 16  # draws of one call that are admitted before another owner has a turn


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
        job = self._open(call, self.kv.match(call.ids), call.start, 0)
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
            job = self._open(call, match, size - 1, call.limit - 1)
            if job is None:
                return False
            computed, edge = size - job.done, job.edge
        else:
            computed, edge = 0, kv.fork(match)
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

    def _open(self, call: Call, match: Match, first: int, more: int) -> Prefill | None:
        """A prefill of the call's prompt with outputs from position `first` on; None if it and `more` do not fit."""
        kv, ids = self.kv, call.ids
        cached = len(match.slots)
        edge = kv.fork(match)  # so that the lock covers no more
        kv.lock(edge)
        if kv.available - self.promised < len(ids) - cached + more:
            kv.unlock(edge)
            return None
        slots = match.slots
        if cached < len(ids):
            new = kv.take(len(ids) - cached)
            slots, shared = np.concatenate((slots, new)), edge
            edge = kv.insert(ids[cached:], new, shared).edge
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
        rows = lines(self.running)
        slots = self.kv.take(len(rows))
        self.promised -= len(rows)
        self.table[rows, self.length[rows]] = slots
        self.length[rows] += 1
        self.kv.ready[slots] = True
        return rows, self.tokens[rows, self.count[rows] - 1], slots

    def sort(self) -> None:
        """Running rows by length, so that those that attend together hold little padding (mutates)."""
        length = self.length[lines(self.running)]
        if (length[:-1] > length[1:]).any():
            self.running = [self.running[i] for i in np.argsort(length, kind="stable").tolist()]

    def close(self, job: Prefill, hidden: torch.Tensor) -> None:
        """A prefill is computed; `hidden` [H] is its last token's state (mutates)."""
        self.prefills.remove(job)
        if self._by_end.get(end := int(job.slots[-1])) is job:
            del self._by_end[end]
        if job.call.start < 0:
            self.kv.mark(end, hidden.clone())  # a view would keep the whole forward's output
        self.kv.unlock(job.edge)

    def ending(self, row: Row, first: int, count: int) -> tuple[str, int]:
        """Whether and how the draw ends within its tokens first .. count - 1 ("" if not), and how many are taken.

        Tells the row's watcher what it has to know (mutates).
        """
        call, watch, i = row.call, row.watch, row.index
        for taken, token in enumerate(self.tokens[i, first:count].tolist(), first + 1):
            if token in call.ends:
                return "end", taken
            if watch is not None and (call.alert is None or token in call.alert):
                told, row.told = row.told, taken
                if watch(self.tokens[i, told:taken].tolist(), self.logprobs[i, told:taken].tolist()):
                    return "stop", taken
        return "", count

    def end(self, row: Row, keep: bool) -> None:
        """A row leaves; what it drew and computed stays in the tree if `keep` (mutates)."""
        i, call, kv = row.index, row.call, self.kv
        size, drawn, begun = int(self.length[i]), int(self.count[i]), len(call.ids)
        slots = self.table[i, begun:size].copy()
        if keep:
            kv.give(kv.insert(tuple(self.tokens[i, : size - begun].tolist()), slots, row.edge).spare)
        else:
            kv.give(slots)
        kv.unlock(row.edge)
        self.promised -= int(self.limit[i]) - 1 - (size - begun)
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
