"""The simulation by hand, by what must be conserved, and against the pool itself."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from experiments.plan.cache import Cache
from experiments.plan.script import Ask, Phase, Script, Work
from experiments.plan.simulated import Faults
from experiments.plan.simulation import Fleet
from experiments.plan.station import Station
from policies.pool import keeper, pool
from policies.pool.port import Port, anything
from policies.pool.replica import Gone, Replica
from policies.pool.rules import Rules


def one(*lengths, key=b"", prompt=0.0):
    """A problem with one request."""
    return Script(key, (-1,), (prompt,), (Phase("policy", (Ask(0, lengths),)),))


def test_a_case_by_hand():
    """Two draws share a replica; a third comes when one is done; a step is 1 s for a row, 1.5 s for two.

    The first (2 tokens) and the second (4) advance together: the first ends at 3. The third (3 tokens) begins there;
    the second has 2 left and ends at 6, when the third has 1 left, alone: it ends at 7.
    """
    station = Station(rate=1, full=4 / 3, rows=2, replicas=1)
    outcome = Fleet(stations={"policy": station}).run([one(2), one(4), one(3)])
    assert list(outcome.ends) == pytest.approx([3, 6, 7])
    assert outcome.wall == pytest.approx(7) and outcome.busy("policy") == pytest.approx(1)
    tally = outcome.pools["policy"].tally
    assert tally.drawn == pytest.approx(9) and tally.row_seconds == pytest.approx(2 * 6 + 1)


def test_prompts_by_hand():
    """Prompts of 10 tokens take a second each, one after the other; draws stand still meanwhile."""
    station = Station(rate=1, prefill=10, call=0.5, replicas=1)
    scripts = [one(4, key=b"a", prompt=10), one(4, key=b"b", prompt=10)]
    outcome = Fleet(stations={"policy": station}).run(scripts, arrivals=[0, 3])
    # the first reads until 1.5, has 1.5 tokens at 3; the second reads until 4.5; they share: 2.5 tokens each in 5 s
    assert list(outcome.ends) == pytest.approx([9.5, 11])


def test_a_cache_by_hand():
    tree = Script(b"p", (-1, 0, 0, 1), (10, 5, 7, 2), ())
    cache = Cache(None, 1.0)
    assert tree.lengths == [10, 15, 17, 17]
    assert cache.read(tree, 0, 12) == 10
    assert cache.read(tree, 1, 2) == 1, "the step was drawn here: only its last token is fed again"
    assert cache.read(tree, 3, 0) == 1
    other = Cache(None, 1.0)
    assert other.read(tree, 3, 0) == 17
    assert other.read(tree, 1, 0) == 1 and other.read(tree, 2, 0) == 7
    half = Cache(None, 0.5)
    assert half.read(tree, 0, 12) == 10 and half.read(tree, 1, 0) == 7.5
    small = Cache(30, 1.0)
    again = Script(b"q", (-1,), (25,), ())
    assert [small.read(tree, 0, 0), small.read(again, 0, 0), small.read(tree, 0, 0)] == [10, 25, 10], "forgotten"


@pytest.mark.parametrize("routing", ["affine", "random", "least"])
@pytest.mark.parametrize("between", [None, 40.0])
def test_every_request_is_answered_once_whatever_is_lost(routing, between):
    scripts = Work(steps=5, tokens=20).scripts(60, seed=1)
    asked = sum(len(phase.asks) for script in scripts for phase in script.phases if phase.station == "policy")
    fleet = Fleet(
        stations={"policy": Station(rate=20, full=200, rows=20, replicas=5), "verifier": Station(call=0.01)},
        rules={"policy": Rules(replicas=5, rows=20, queue=10, retries=50)},  # a full door too
        faults={"policy": Faults(between=between, start=5)},
        routing=routing,
    )
    outcome = fleet.run(scripts, concurrency=30)
    policy = outcome.pools["policy"]
    assert len(outcome.seconds) == 60 and outcome.failed == 0
    assert policy.counters.items == asked == len(policy.waits.whole)
    drawn = sum(sum(a.lengths) for s in scripts for p in s.phases for a in p.asks)
    assert policy.tally.drawn == pytest.approx(drawn), "nothing lost, nothing counted twice"
    died = policy.counters.replaced.get("died", 0)
    assert (died > 10 and policy.counters.again > 10 and policy.tally.lost > 0) == (between is not None)
    assert outcome.lost() == pytest.approx(0) if between is None else 0 < outcome.lost() < 0.5


def test_the_same_seed_gives_the_same_run_and_another_does_not():
    scripts = Work(steps=3).scripts(20, seed=0)
    fleet = Fleet(
        stations={"policy": Station(rate=20, full=100, rows=16, replicas=3)},
        faults={"policy": Faults(between=30, start=2)},
    )
    scripts = [Script(s.key, s.parents, s.sizes, [p for p in s.phases if p.station == "policy"]) for s in scripts]
    runs = [list(fleet.run(scripts, seed=seed).ends) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_no_replica_rests_while_another_one_has_a_queue():
    """Work is conserved: with the least loaded first, all end together within one request."""
    scripts = [one(10.0, key=str(i).encode()) for i in range(101)]
    stations = {"policy": Station(rate=1, full=1, rows=1, replicas=10)}
    outcome = Fleet(stations=stations, routing="least").run(scripts)
    assert outcome.wall == pytest.approx(110) and outcome.pools["policy"].tally.busy == pytest.approx(1010)
    last = Fleet(stations={"policy": Station(rate=1, full=1, rows=1)}).run(scripts)
    assert last.wall == pytest.approx(1010) and last.busy("policy") == pytest.approx(1)


def test_the_pool_grows_under_load_and_shrinks_after_it():
    scripts = [one(10.0, key=str(i).encode()) for i in range(400)] + [one(1.0)] * 3
    rules = Rules(replicas=2, most=6, rows=4, health=5, idle=30)
    fleet = Fleet(
        stations={"policy": Station(rate=1, full=4, rows=4, replicas=2)},
        rules={"policy": rules},
        faults={"policy": Faults(start=10)},
    )
    outcome = fleet.run(scripts, arrivals=[0.0] * 400 + [400.0, 500.0, 600.0])
    counters = outcome.pools["policy"].counters
    assert counters.grown == 4 and counters.shrunk == 4
    assert max(outcome.ends[:400]) < 0.5 * 400 * 10 / 8, "twice as fast as two"
    assert len(outcome.ends) == 403


def test_a_request_that_is_lost_too_often_is_its_problems_failure_and_ends_it():
    fleet = Fleet(
        stations={"policy": Station(rate=1, replicas=1)},
        rules={"policy": Rules(replicas=1, retries=2)},
        faults={"policy": Faults(between=1, start=1)},
    )
    outcome = fleet.run([one(1000.0)])
    assert outcome.failed == 1 and len(outcome.seconds) == 1
    assert outcome.pools["policy"].counters.replaced["died"] == 3


# ---- the pool itself, on a clock that jumps ----


class Jumping(asyncio.SelectorEventLoop):
    """An event loop that does not wait: when nothing is ready, it is the time of the next timer."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        select = self._selector.select

        def jump(timeout):
            if timeout:
                self.seconds += timeout
            return select(0)

        self._selector.select = jump

    def time(self):
        return self.seconds


class Sleeper(Replica):
    """A replica whose rows have a speed of their own: an item takes as many seconds as it says."""

    def __init__(self, number, seen):
        self.number, self.seen, self.dead = number, seen, asyncio.Event()

    async def start(self):
        pass

    async def work(self, call):
        (item,) = call.items
        self.seen[item[0]] = self.number
        await asyncio.wait({asyncio.ensure_future(self.dead.wait())}, timeout=max(item[1]))
        if self.dead.is_set():
            raise Gone("lost")
        return [None]

    async def ping(self):
        pass

    def ask(self, name, arguments, limit):
        raise AssertionError

    def tell(self, name, arguments):
        raise AssertionError

    async def stop(self):
        pass

    def kill(self):
        self.dead.set()


@pytest.mark.parametrize(("rows", "spill"), [(4, 64), (8, 4), (16, 0)])
def test_the_pool_itself_ends_every_problem_at_the_same_time(rows, spill, monkeypatch):
    """The real pool over replicas that sleep, in jumping time: same ends, same routes, same counters."""
    rng = random.Random(rows)
    work = Work(steps=4, requests=3, draws=2, passes=0)
    scripts = work.scripts(40, seed=rows)
    rules = Rules(replicas=4, rows=rows, spill=spill, queue=6)
    arrivals = sorted(rng.uniform(0, 300) for _ in scripts)
    fleet = Fleet(
        stations={"policy": Station(rate=1, full=rows, rows=rows, replicas=4)},
        rules={"policy": rules},
    )
    expected = fleet.run(scripts, arrivals=arrivals)

    port = Port("work", lambda item: item[2], anything, RuntimeError, lambda item: len(item[1]))
    ends, seen = {}, {}

    async def solve(front, script, arrival):
        await asyncio.sleep(arrival)
        for number, phase in enumerate(script.phases):
            items = [((script.key, number, i), ask.lengths, script.key) for i, ask in enumerate(phase.asks)]
            await asyncio.gather(*(front(port, [item]) for item in items))
        ends[script.key] = asyncio.get_running_loop().time()

    async def main():
        made = pool.Pool(lambda number: Sleeper(number, seen), rules)
        async with made as front:
            await asyncio.gather(*(solve(front, s, a) for s, a in zip(scripts, arrivals, strict=True)))
        return made.counters

    loop = Jumping()
    for module in (pool, keeper):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=loop.time))
    try:
        counters = loop.run_until_complete(main())
    finally:
        loop.close()
    assert sorted(ends.values()) == pytest.approx(list(expected.ends), abs=1e-3)
    assert counters.items == expected.pools["policy"].counters.items
    assert counters.spilled == expected.pools["policy"].counters.spilled
    assert (counters.spilled > 0) == (spill < 64), "there was something to compare"
    assert len(Counter(seen.values())) == 4
