"""The pool itself: items go to replicas, answers come back, whatever happens to the replicas.

Life of an item: it waits at the door while the pool is full; `routing` names a slot; it waits there until the replica
has room; it leaves together with what its caller asked at the same time; its answer is checked and given to the caller.
Lost on the way (the replica died, hung, or answered what cannot be an answer) it is asked again, elsewhere if there is
an elsewhere. That changes no result: the answer to a request is a function of the request, so it does not matter who
answers, nor how often; the caller gets one answer and is charged for one.

An item that kills its replica takes others down with it. So that none of them is blamed, an item is tried twice in
company, and then alone: what a replica dies of while it has one item is that item.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

from policies.pool.home import Call
from policies.pool.jobs import Job, Slot
from policies.pool.keeper import Keeper
from policies.pool.port import Port
from policies.pool.replica import Gone, Replica
from policies.pool.routing import choose, ranked
from policies.pool.rules import Counters, Rules
from search.errors import TreewiseError

COMPANY = 2  # times an item is tried together with others
STRIKES = 3  # faults in a row after which a replica is replaced


class Pool:
    """Replicas of one part. Use it inside `async with`, from one event loop.

    Args:
        make: makes the replica for a slot; slots are numbered from 0, and a slot whose replica is lost gets another.
        open, close: called before the first replica is made, in a thread, and after the last has ended.

    Attributes:
        counters: what happened so far.
    """

    def __init__(
        self,
        make: Callable[[int], Replica],
        rules: Rules,
        open: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ):
        self.rules, self.counters = rules, Counters()
        self._open, self._close = open, close
        self._slots: dict[int, Slot] = {}
        self._homeless: deque[Job] = deque()  # routed nowhere: no replica is ready
        self._door: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._waiting = 0  # draws inside that are not answered
        self._keeper = Keeper(self, make)
        self._tasks: set[asyncio.Task[None]] = set()
        self._full = rules.replicas * (rules.rows + rules.queue)

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._open)
        try:
            await self._keeper.open()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._keeper.close()
        finally:
            self._close()

    async def __call__(self, port: Port, items: Sequence[Any], binding: Any = None) -> list[Any]:
        """Answers in the order of `items`; the part is bound to `binding` first, if there is one.

        Raises what the part raises; `port.error` for an item that no replica could answer. If several items fail, it is
        the error of the first.
        """
        loop, jobs = asyncio.get_running_loop(), []
        bound = None if binding is None else binding if isinstance(binding, bytes) else pickle.dumps(binding)
        head = (port, bound, object())
        for item in items:
            weight = port.weight(item)
            if self._door or (self._waiting + weight > self._full and self._waiting):
                room = loop.create_future()
                self._door.append((weight, room))
                self._pump()
                await room
            else:
                self._waiting += weight
            jobs.append(job := Job(head, item, weight, loop.create_future(), port.key(item)))
            job.future.add_done_callback(partial(self._out, weight))
            self._route(job)
        self._pump()
        if len(jobs) == 1:
            return [await jobs[0].future]
        done = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
        for answer in done:
            if isinstance(answer, BaseException):
                raise answer
        return list(done)

    def begin(self, port: Port, item: Any) -> asyncio.Future[Any] | None:
        """The answer to come of one item, at once at work on a replica with less than `rules.ahead` draws; or None.

        None too where other items wait for a replica: they come first.
        """
        idle = {n: slot.load for n, slot in self._slots.items() if slot.load < self.rules.ahead and not slot.alone}
        if not idle or self._door or self._homeless:
            return None
        weight, answer = port.weight(item), asyncio.get_running_loop().create_future()
        self._waiting += weight
        answer.add_done_callback(partial(self._out, weight))
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ever ask for it
        job = Job((port, None, object()), item, weight, answer, port.key(item))
        self._slots[choose(job.key, idle, self.rules.ahead)].put(job)
        self._pump()
        return answer

    def ask(self, name: str, *arguments: Any) -> Any:
        """What a method of the part that is no coroutine returns, from any replica; blocks until it is there."""
        said = "none is ready"
        for slot in sorted(self._slots.values(), key=lambda slot: slot.load):
            try:
                return slot.replica.ask(name, arguments, self.rules.health)
            except Gone as gone:
                said = str(gone)
        raise TreewiseError(f"no replica could be asked for {name!r}: {said}")

    def every(self, name: str) -> list[Any]:
        """As `ask`, of all replicas that answer."""
        answers = []
        for slot in list(self._slots.values()):
            with suppress(Gone):
                answers.append(slot.replica.ask(name, (), self.rules.health))
        return answers

    def tell(self, key: bytes, name: str, *arguments: Any) -> None:
        """A hint to the replica where `key` belongs."""
        if self._slots:
            self._slots[ranked(key, tuple(sorted(self._slots)))[0]].replica.tell(name, arguments)

    @property
    def pressure(self) -> float:
        """Draws that wait for a replica, per replica that is ready."""
        queued = sum(slot.queued for slot in self._slots.values()) + sum(job.weight for job in self._homeless)
        return (queued + sum(weight for weight, _ in self._door)) / max(len(self._slots), 1)

    # ---- for the keeper of the replicas ----

    def joined(self, slot: Slot) -> None:
        """A replica is ready: what waits is dealt out again."""
        waiting = [*self._homeless]
        for other in self._slots.values():
            waiting += other.queue
            other.clear()
        self._homeless.clear()
        self._slots[slot.number] = slot
        for job in waiting:
            self._route(job)
        self._pump()

    def left(self, slot: Slot) -> None:
        """A replica is no more: what waited for it goes elsewhere. What it was working on comes back as Gone."""
        if self._slots.get(slot.number) is slot:
            del self._slots[slot.number]
        waiting = list(slot.queue)
        slot.clear()
        for job in waiting:
            self._route(job)
        self._pump()

    def hopeless(self, said: str) -> None:
        """No replica is ready and none can be started: what waits for one fails."""
        while self._homeless:
            job = self._homeless.popleft()
            _end(job, job.port.error(f"no replica can be started: {said}"))

    # ---- the way of an item ----

    def _route(self, job: Job) -> None:
        loads = {number: slot.load for number, slot in self._slots.items()}
        if len(loads) > 1:
            loads.pop(job.avoid, None)
        if not loads:
            self._homeless.append(job)
            return
        number = choose(job.key, loads, self.rules.spill)
        self.counters.spilled += number != ranked(job.key, tuple(sorted(loads)))[0]
        self._slots[number].put(job)

    def _pump(self) -> None:
        """Sends what replicas have room for."""
        for slot in list(self._slots.values()):
            while group := slot.take(self.rules.rows, lambda job: job.tries >= COMPANY):
                task = asyncio.create_task(self._work(slot, group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _work(self, slot: Slot, group: list[Job]) -> None:
        """One call of a replica: its items are answered, failed, or asked again."""
        self.counters.calls += 1
        began = time.monotonic()
        try:
            why, error = await self._asked(slot, group)
        finally:
            slot.done(group, time.monotonic())
        if why:
            self._keeper.replace(slot, why)
        if error is None:
            self.counters.away += (time.monotonic() - began) * len(group)
        else:
            self.counters.lost_seconds += time.monotonic() - began
            for job in group:
                if not job.future.done():
                    self._again(job, slot, error)
        self._pump()

    async def _asked(self, slot: Slot, group: Sequence[Job]) -> tuple[str, Exception | None]:
        """Answers what can be; why the replica must be replaced ("" if it need not), and the error of what is left."""
        port, binding, _ = group[0].head
        call = Call(port.method, port.columns, binding, [job.item for job in group])
        limit = asyncio.timeout(self.rules.deadline)
        try:
            async with limit:
                answers = await slot.replica.work(call)
        except Gone as gone:
            return "died", port.error(f"the replica was lost each time: {gone}")
        except TreewiseError as told:  # an answer like any other
            for job in group:
                _end(job, told)
            return "", None
        except Exception as fault:  # the part's own fault, of this replica alone or of every one
            if limit.expired():
                return "hung", port.error(f"no replica answered within {self.rules.deadline:g} s")
            slot.strikes += 1
            return "faults" if slot.strikes >= STRIKES else "", fault
        slot.strikes = 0
        bad = self._settle(group, answers)
        return ("", None) if bad is None else ("garbage", bad)

    def _settle(self, group: Sequence[Job], answers: Sequence[Any]) -> Exception | None:
        """Gives good answers to their callers; the error of the first bad one."""
        if len(answers) != len(group):
            self.counters.lost_tokens += sum(map(_tokens, answers))
            return group[0].port.error(f"{len(answers)} answers came back for {len(group)} questions")
        bad: Exception | None = None
        for job, answer in zip(group, answers, strict=True):
            try:
                job.port.check(job.item, answer)
            except Exception as error:  # a check may stumble over what is not even of the right kind
                self.counters.lost_tokens += _tokens(answer)
                known = isinstance(error, TreewiseError)
                bad = bad or (error if known else job.port.error(f"{type(error).__name__}: {error}"))
            else:
                self.counters.items += not job.future.done()
                _end(job, answer)
        return bad

    def _again(self, job: Job, slot: Slot, error: Exception) -> None:
        job.tries += 1
        if job.tries > self.rules.retries:
            _end(job, error)
            return
        self.counters.again += 1
        job.avoid, job.head = slot.number, (*job.head[:2], object())  # on its own from now on
        self._route(job)

    def _out(self, weight: int, _: object) -> None:
        """An item is answered, or its caller is gone: whoever waits at the door may come in."""
        self._waiting -= weight
        while self._door and (not self._waiting or self._waiting + self._door[0][0] <= self._full):
            next_, room = self._door.popleft()
            if not room.done():
                self._waiting += next_
                room.set_result(None)


def _end(job: Job, result: Any) -> None:
    if not job.future.done():  # a caller may have been cancelled
        if isinstance(result, Exception):
            job.future.set_exception(result)
        else:
            job.future.set_result(result)


def _tokens(answer: Any) -> int:
    """Generated, as an answer says."""
    return int(getattr(getattr(answer, "cost", None), "generated", 0))
