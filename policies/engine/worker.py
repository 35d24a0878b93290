"""One step of the engine: admit, compute, draw a token per row, and note which calls are complete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from policies.engine.calls import Call, Draw, Drawn, Listed, Outputs, Prefill, Row, lines
from policies.engine.forward import Computed, forward
from policies.engine.growth import Draft
from policies.engine.kv import KV
from policies.engine.load import Model
from policies.engine.pace import Did
from policies.engine.sampler import Numbers, Sampled, likeliest, sample
from policies.engine.schedule import Scheduler
from policies.engine.speculate import Speculation
from search.errors import PolicyError

READ_AT_ONCE = 512  # positions whose head outputs are in memory together


class Worker:
    """What the engine's thread does; no other thread calls it, except before it starts."""

    def __init__(
        self, model: Model, kv: KV, scheduler: Callable[[], Scheduler], speculation: Speculation | None = None
    ):
        self._model, self._kv, self._scheduler, self._speculation = model, kv, scheduler, speculation
        self._schedule = scheduler()
        self._calls: set[Call] = set()
        self._done: list[tuple[asyncio.Future[Any], Any]] = []
        self._came, self._inside = 0, 0.0  # since the latest step: calls, and seconds that those answered were here

    @property
    def idle(self) -> bool:
        return self._schedule.idle

    def enter(self, calls: Sequence[Call]) -> None:
        calls = [call for call in calls if not call.future.done()]  # cancelled on the way
        self._calls.update(calls)
        self._came += len(calls)
        now = time.perf_counter()
        for call in calls:
            call.since = now
        self._schedule.waiting.extend(calls)

    def cancel(self, call: Call) -> None:
        """Nobody waits for `call`: its rows leave at once."""
        if call in self._calls:
            self._calls.discard(call)
            self._schedule.drop(call)

    def retain(self, ids: tuple[int, ...]) -> None:
        edge = self._kv.match(ids).edge
        self._kv.lock(edge)
        self._kv.unlock(edge)

    def release(self, ids: tuple[int, ...], keep: int) -> None:
        self._kv.release(ids, keep)

    def fail(self, error: Exception) -> None:
        """Every call that waits gets `error`; cache and queues start anew, for their state cannot be trusted."""
        if not isinstance(error, PolicyError):
            told = PolicyError(f"the model failed: {type(error).__name__}: {error}")
            told.__cause__ = error
            error = told
        self._done.extend((call.future, error) for call in self._calls)
        self._calls.clear()
        self._kv.clear()
        self._schedule = self._scheduler()
        if self._speculation is not None:
            self._speculation.forget()

    def deliver(self) -> None:
        """Tell the event loops what is complete, each of them once."""
        done, self._done = self._done, []
        loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
        for future, result in done:
            loops.setdefault(future.get_loop(), []).append((future, result))
        for loop, some in loops.items():
            try:
                loop.call_soon_threadsafe(_settle, some)
            except RuntimeError:  # that event loop is closed: nobody waits any more
                continue

    def step(self) -> Did:
        """One forward and what follows from it.

        Raises:
            PolicyError: the logits are not finite.
        """
        begin = time.perf_counter()
        schedule, speculation = self._schedule, self._speculation
        watch = speculation.clock() if speculation else 0.0
        schedule.admit()
        draft = speculation.propose(schedule) if speculation else None
        computed = forward(self._model, schedule, draft)
        running = len(schedule.running)
        rows, states = self._begin(computed)
        drawing = len(rows) - sum(row.call.top > 0 for row in rows[running:])
        chunks = [] if computed is None else computed.prefills
        where = lines(rows)
        before = schedule.count[where]
        if rows:
            logits = self._model.head(states)
            if drawing:
                self._draw(where[:drawing], logits, draft)
        # model time goes to the calls by the tokens that each had in this step
        work = [(job.call.tally, job.chunk) for job in chunks]
        read = sum(count for _, count in work)
        spent = (time.perf_counter() - begin) / max(len(rows) + read, 1)
        for tally, count in work:
            tally.seconds += spent * count
        drawn = 0
        if rows:
            schedule.seconds[where] += spent
            self._leave(rows[:drawing], where[:drawing], before[:drawing])
            drawn = int((schedule.count[where] - before).sum())  # nothing beyond an end, which has been found by now
            if drawing < len(rows):
                self._list(rows[drawing:], logits[drawing - len(rows) :])
        if speculation is not None and computed is not None and speculation.governor.watching:
            others = len(computed.hidden) - computed.running
            took = speculation.clock() - watch
            # counted after the ends were found: what was drawn beyond them was for nothing
            drew = int((schedule.count[where] - before)[:running].sum())
            guessing = speculation.guessing
            speculation.governor.observe(running, draft is not None, computed.running, others, drew, took, guessing)
        done = [job for job in chunks if job.call.start >= 0 and job.done == len(job.slots) and not job.call.over]
        self._answer([job for job in done if job.call.targets])
        self._answer([job for job in done if not job.call.targets])
        did = Did(len(rows), drawn, read, self._came, self._inside)
        self._came, self._inside = 0, 0.0
        return did

    def _begin(self, computed: Computed | None) -> tuple[list[Row], torch.Tensor]:
        """All rows that get a token now, those that list tokens last, and the states [N, H] they get it from.

        The states are first those of the running rows, or of their drafts' nodes, then one per further row. Books the
        prefills' progress (mutates).
        """
        s = self._schedule
        fresh, s.fresh = s.fresh, []
        parts, kept, new = [], 0, []
        if computed is not None:
            parts.append(computed.hidden)
            kept = computed.running
            new = self._advance(computed)
        if fresh:
            begun = 0 if computed is None else len(computed.hidden)
            parts.append(torch.stack([hidden for _, hidden in fresh]))
            new = [(row, begun + i) for i, (row, _) in enumerate(fresh)] + new
        states = torch.cat(parts) if len(parts) > 1 else parts[0] if parts else torch.empty(0)
        if not new:
            return list(s.running), states[:kept]
        new.sort(key=lambda begun: begun[0].call.top > 0)
        index = np.concatenate((np.arange(kept), np.fromiter((i for _, i in new), np.int64, len(new))))
        return s.running + [row for row, _ in new], states.index_select(0, torch.from_numpy(index).to(states.device))

    def _advance(self, computed: Computed) -> list[tuple[Row, int]]:
        """Book the prefills' progress; the rows whose prompt is complete, and where in `hidden` it ends (mutates)."""
        at, rows = computed.running, []
        for job in computed.prefills:
            hidden = computed.hidden[at : at + job.chunk]
            at += job.chunk
            if job.call.start >= 0:
                job.outputs.append(hidden[max(job.call.start - job.done, 0) :])
            job.done += job.chunk
            if job.done == len(job.slots):
                self._schedule.close(job, hidden[-1])
                rows += [(row, at - 1) for row in job.rows]
        return rows

    def _draw(self, where: np.ndarray, logits: torch.Tensor, draft: Draft | None) -> None:
        """One token for each row, by its line; of rows with a draft, which come first, all that prove right and one
        more."""
        s = self._schedule
        index = own = where if draft is None else where[len(draft.rows) :]
        positions = s.count[own]
        if draft is not None:
            index = np.concatenate((draft.lines, own))
            positions = np.concatenate((s.count[draft.lines] + draft.ahead, positions))
        logits = logits[: len(index)]
        numbers = Numbers(s.seed[index], positions, s.temperature[index], s.top_k[index], s.top_p[index])
        sampled = sample(logits, numbers)
        if draft is not None and self._speculation is not None:
            at = len(draft.lines)
            self._speculation.settle(s, draft, Sampled(*(part[:at] for part in sampled)), logits[:at])
            sampled = Sampled(*(part[at:] for part in sampled))
        s.tokens[own, s.count[own]] = sampled.tokens
        s.logprobs[own, s.count[own]] = sampled.logprobs
        s.count[own] += 1

    def _list(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Answers listing calls, one of `logits` [R, V] each (mutates)."""
        alike: dict[tuple[int, int], list[int]] = {}
        for i, row in enumerate(rows):
            alike.setdefault((row.call.top, row.call.among), []).append(i)
        for (top, among), some in alike.items():
            chosen = logits if len(some) == len(rows) else logits[some]
            for i, (tokens, logprobs) in zip(some, likeliest(chosen, top, among), strict=True):
                self._schedule.end(rows[i], keep=True)
                self._complete(rows[i].call, Listed(tokens, logprobs, rows[i].call.tally))

    def _leave(self, rows: list[Row], i: np.ndarray, before: np.ndarray) -> None:
        """Rows that are complete leave the schedule; calls that are complete are answered.

        `i` are their lines. What was drawn since `before` (counts, [rows]) is looked at token by token: nothing after
        an end is kept.
        """
        s = self._schedule
        counts = s.count[i]
        # what the loop does not look at: rows that drew one token, at which no draw of theirs can end
        latest, spare = s.tokens[i, counts - 1].tolist(), s.limit[i] - counts
        single = ((counts - before == 1) & (spare > 0)).tolist()
        stay: list[Row] = []
        for row, first, count, one, token in zip(rows, before.tolist(), counts.tolist(), single, latest, strict=True):
            call = row.call
            if call.over:  # another row of the same call failed just now
                s.end(row, keep=False)
                continue
            if one and call.alert is not None and token not in call.alert and token not in call.ends:
                stay.append(row)
                continue
            try:
                finish, taken = s.ending(row, first, count)
            except Exception as error:  # the watcher is the caller's code: its failure is the caller's alone
                self._refuse(call, error)
                s.end(row, keep=False)
                continue
            if taken < count:
                count = taken
                s.cut(row, count)
            if not finish and count < call.limit:
                stay.append(row)
                continue
            if finish == "stop" and self._speculation is not None:
                self._speculation.stopped(int(s.tokens[row.index, count - 1]))
            finish = finish or "length"
            call.draws[row.draw] = Draw(
                tuple(s.tokens[row.index, :count].tolist()), tuple(s.logprobs[row.index, :count].tolist()), finish
            )
            # an ended sequence is not continued: its keys and values would only push others out
            s.end(row, keep=finish != "end")
            if all(draw is not None for draw in call.draws):
                self._complete(call, Drawn(tuple(draw for draw in call.draws if draw is not None), call.tally))
        s.running = [row for row in stay if not row.call.over]
        for row in stay:
            if row.call.over:
                s.end(row, keep=False)
        # the others keep their order when rows neither join nor run ahead
        if not before.all() or (counts - before > 1).any():
            s.sort()

    def _refuse(self, call: Call, error: Exception) -> None:
        told = PolicyError(f"the rule that ends a draw failed: {type(error).__name__}: {error}")
        told.__cause__ = error
        call.over = True
        self._complete(call, told)

    def _complete(self, call: Call, result: Any) -> None:
        self._calls.discard(call)
        self._inside += time.perf_counter() - call.since
        self._done.append((call.future, result))

    def _answer(self, jobs: list[Prefill]) -> None:
        """Head outputs, or log-probabilities of targets, for reading calls whose ids are all computed."""
        if not jobs:
            return
        states = torch.cat([part for job in jobs for part in job.outputs])
        targets = [t for job in jobs for t in job.call.targets]
        parts = []
        for at in range(0, len(states), READ_AT_ONCE):
            values = self._model.head(states[at : at + READ_AT_ONCE]).float()
            if targets:
                wanted = torch.tensor(targets[at : at + READ_AT_ONCE], device=values.device)
                chosen = values.gather(-1, wanted[:, None])[:, 0]
                norm = values.logsumexp(-1)
                values = torch.stack((chosen - norm, values.amax(-1) - norm), -1)
            parts.append(values)
        outputs = torch.cat(parts).cpu().split([sum(map(len, job.outputs)) for job in jobs])
        for job, values in zip(jobs, outputs, strict=True):
            self._complete(job.call, Outputs(values, job.call.tally))


def _settle(done: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in done:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
