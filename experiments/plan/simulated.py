"""A simulated pool of one station: the pool's own slots, routing and rules, over simulated replicas.

What decides here is `policies.pool`: `routing.choose` where a request goes, `jobs.Slot` what leaves together and when
there is room, `rules.Rules` how many replicas there are, `pool.COMPANY` who is tried alone. Only time is simulated.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from experiments.plan.cache import Cache
from experiments.plan.clock import Clock
from experiments.plan.device import Call, Device, Tally
from experiments.plan.host import Shared
from experiments.plan.script import Ask, Script
from experiments.plan.station import Station
from policies.pool import port
from policies.pool.jobs import Job, Slot
from policies.pool.pool import COMPANY
from policies.pool.routing import choose, ranked
from policies.pool.rules import Counters, Rules

KEYS = 512  # different ones for routing that knows no prefix
NOWHERE = 10**12  # draws: more than any replica can have


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happens to replicas.

    Attributes:
        between: mean seconds between two losses of a replica (exponential); None for none.
        start: seconds for another one to be ready.
        room: tokens that the cache of a replica holds; None for all.
        keeps: see `experiments.plan.cache.Cache`.
    """

    between: float | None = None
    start: float = 60.0
    room: float | None = None
    keeps: float = 1.0


class _Open:
    """Stands for the future of a job, which no caller cancels here."""

    def done(self) -> bool:
        return False


_OPEN = cast(Any, _Open())
_PORT = port.Port("simulated", port.by_content, port.anything, RuntimeError)


@dataclass(eq=False, slots=True)
class _Asked:
    """One request on its way."""

    script: Script
    ask: Ask
    answered: Callable[[], None]
    since: float


@dataclass(slots=True)
class Waits:
    """Seconds of each request: in a queue before its replica took it, and until it was answered."""

    queued: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


class Simulated:
    """The replicas of one station.

    Args:
        routing: "affine" as the pool does it; "random"; "least", the least loaded.
        together: whether requests made at once are one call of a replica, as prefixes to judge are.
        hosts: machines whose processors its replicas share, in turn; () for devices of their own.

    Attributes:
        failed: requests that no replica answered in `Rules.retries` more tries.
        seconds: of replicas that were ready, added up, up to the latest change.
    """

    def __init__(
        self,
        clock: Clock,
        station: Station,
        rules: Rules,
        faults: Faults,
        rng: random.Random,
        routing: str = "affine",
        together: bool = False,
        hosts: Sequence[Shared] = (),
    ):
        self.clock, self.station, self.rules, self.faults = clock, station, rules, faults
        self.counters, self.tally, self.waits = Counters(), Tally(), Waits()
        self.failed, self.seconds = 0, 0.0
        self._rng, self._together, self._affine, self._hosts = rng, together, routing == "affine", hosts
        self._spill = {"affine": rules.spill, "random": NOWHERE // 2, "least": 0}[routing]
        self._keys = [rng.randbytes(8) for _ in range(KEYS)]
        self._slots: dict[int, Slot] = {}
        self._devices: dict[int, Device] = {}
        self._starting: set[int] = set()
        self._loads: dict[int, int] = {}  # by slot, of all there ever were: one without a replica is never the least
        self._homeless: deque[Job] = deque()
        self._door: deque[Job] = deque()
        self._waiting, self._full = 0, rules.replicas * (rules.rows + rules.queue)
        self._changed = 0.0
        for number in range(rules.replicas):
            self._join(number)
        if (rules.most or rules.replicas) > rules.replicas:
            clock.at(rules.health, self._watch)

    def __call__(self, script: Script, asks: tuple[Ask, ...], answered: Callable[[], None]) -> None:
        """Requests that one problem makes at once; `answered` is called once for each."""
        head, touched = object(), set[int]()
        for ask in asks:
            head = head if self._together else object()
            item = _Asked(script, ask, answered, self.clock.now)
            job = Job((_PORT, None, head), item, max(len(ask.lengths), 1), _OPEN, self._key(script))
            if self._door or (self._waiting + job.weight > self._full and self._waiting):
                self._door.append(job)
            else:
                self._waiting += job.weight
                touched.update(self._route(job))
        for number in sorted(touched):
            self._pump(number)

    def settle(self) -> None:
        """Counts what was done up to now."""
        self._change()
        for device in self._devices.values():
            device.settle()

    # ---- the way of a request, as in `policies.pool.pool` ----

    def _key(self, script: Script) -> bytes:
        return script.key if self._affine else self._rng.choice(self._keys)

    def _route(self, job: Job) -> tuple[int, ...]:
        """The slot it is put into; none where no replica is ready."""
        if not self._slots:
            self._homeless.append(job)
            return ()
        loads = self._loads
        if job.avoid in self._slots and len(self._slots) > 1:
            loads = {**loads, job.avoid: NOWHERE}
        number = choose(job.key, loads, self._spill)
        if self._affine:
            self.counters.spilled += number != self._home(job.key, loads)
        self._slots[number].put(job)
        self._loads[number] = self._slots[number].load
        return (number,)

    @staticmethod
    def _home(key: bytes, loads: dict[int, int]) -> int:
        return next(slot for slot in ranked(key, tuple(sorted(loads))) if loads[slot] < NOWHERE)

    def _pump(self, number: int) -> None:
        """Gives a replica what it has room for."""
        if (slot := self._slots.get(number)) is None:
            return
        while group := slot.take(self.rules.rows, lambda job: job.tries >= COMPANY):
            self.counters.calls += 1
            now = self.clock.now
            for job in group:
                self.waits.queued.append(now - job.item.since)
            asks = [(job.item.script, job.item.ask) for job in group]
            self._devices[number].work(Call(asks, partial(self._answered, slot, group)))

    def _answered(self, slot: Slot, group: list[Job], _: Call) -> None:
        self._left(slot, group)
        now = self.clock.now
        for job in group:
            self.counters.items += 1
            self.waits.whole.append(now - job.item.since)
            self._out(job)
            if self.station.way:
                self.clock.at(now + self.station.way, job.item.answered)
            else:
                job.item.answered()
        self._pump(slot.number)

    def _left(self, slot: Slot, group: list[Job]) -> None:
        slot.done(group, self.clock.now)
        if self._slots.get(slot.number) is slot:
            self._loads[slot.number] = slot.load

    def _out(self, job: Job) -> None:
        """An answer is there: who waits at the door may come in."""
        self._waiting -= job.weight
        while self._door and (not self._waiting or self._waiting + self._door[0].weight <= self._full):
            entering = self._door.popleft()
            self._waiting += entering.weight
            for number in self._route(entering):
                self._pump(number)

    # ---- replicas that come and go, as in `policies.pool.keeper` ----

    def _join(self, number: int) -> None:
        """A replica is ready: what waits is dealt out again."""
        self._change()
        self._starting.discard(number)
        waiting = [*self._homeless]
        for slot in self._slots.values():
            waiting += slot.queue
            slot.clear()
            self._loads[slot.number] = slot.load
        self._homeless.clear()
        self._slots[number] = Slot(number, cast(Any, None), self.clock.now)
        self._loads[number] = 0
        cache = Cache(self.faults.room, self.faults.keeps)
        time = self._hosts[number % len(self._hosts)] if self._hosts else self.clock
        self._devices[number] = device = Device(time, self.station, cache, self.tally)
        if self.faults.between:
            self.clock.at(self.clock.now + self._rng.expovariate(1 / self.faults.between), self._lose, number, device)
        for job in waiting:
            self._route(job)
        if waiting:
            for each in list(self._slots):
                self._pump(each)

    def _leave(self, number: int) -> Slot:
        """The slot has no replica any more; what waited for it goes elsewhere."""
        self._change()
        slot = self._slots.pop(number)
        self._loads[number] = NOWHERE
        waiting = list(slot.queue)
        slot.clear()
        for each in sorted({chosen for job in waiting for chosen in self._route(job)}):
            self._pump(each)
        return slot

    def _lose(self, number: int, device: Device) -> None:
        """A replica is lost with what it had; that is asked again, and another replica is started."""
        if self._devices.get(number) is not device:
            return  # let go before
        calls = device.calls
        device.lose()
        del self._devices[number]
        slot = self._leave(number)
        self.counters.replaced["died"] = self.counters.replaced.get("died", 0) + 1
        self._start(number)
        for call in calls:
            group = cast(partial[None], call.answer).args[1]
            slot.done(group, self.clock.now)
            for job in group:
                self._again(job, number)

    def _again(self, job: Job, number: int) -> None:
        job.tries += 1
        if job.tries > self.rules.retries:
            self.failed += 1
            self._out(job)
            job.item.answered()
            return
        self.counters.again += 1
        job.avoid, job.head = number, (*job.head[:2], object())
        for chosen in self._route(job):
            self._pump(chosen)

    def _start(self, number: int) -> None:
        self._starting.add(number)
        self.clock.at(self.clock.now + self.faults.start, self._join, number)

    def _watch(self) -> None:
        """Are the replicas enough, are they too many?"""
        rules, numbers = self.rules, {*self._slots, *self._starting}
        queued = sum(slot.queued for slot in self._slots.values())
        queued += sum(job.weight for job in (*self._homeless, *self._door))
        if rules.grows(len(numbers), queued / max(len(self._slots), 1)):
            self.counters.grown += 1
            self._start(next(n for n in range(len(numbers) + 1) if n not in numbers))
        last = self._slots.get(max(numbers, default=0))
        if last and rules.shrinks(len(numbers), last.load, self.clock.now - last.used):
            self.counters.shrunk += 1
            self._devices.pop(last.number).lose()
            self._leave(last.number)
        self.clock.at(self.clock.now + rules.health, self._watch)

    def _change(self) -> None:
        self.seconds += (self.clock.now - self._changed) * len(self._slots)
        self._changed = self.clock.now
