"""Who runs when: owners take turns, prompts and draws share a forward, stragglers and cancelled calls hold nobody."""

import asyncio
import random
from itertools import chain
from pathlib import Path

import pytest
import torch

from policies.engine import load, worker
from policies.engine.kv import KV
from policies.engine.schedule import TURN, Call, Scheduler
from policies.engine.turns import Turns
from policies.engine.worker import Worker
from policies.tiny import checkpoint


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load.language_model(Path(checkpoint(tmp_path_factory.mktemp("small"), hidden=32, heads=1)), "float32", "cpu")


class Bench:
    """A worker stepped by hand."""

    def __init__(self, model, rows=8, budget=64, slots=4000):
        self.kv = KV(model.layers, model.heads, model.width, slots, model.dtype)
        self.schedule = Scheduler(self.kv, rows, budget)
        self.worker = Worker(model, self.kv, lambda: self.schedule)
        self.loop = asyncio.new_event_loop()
        self.steps = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.loop.close()
        if error[0] is None:
            self.kv.check()

    def call(self, owner, seeds=1, limit=4, size=5, seed=0):
        ids = tuple(random.Random(f"{owner} {seed}").randrange(4, 260) for _ in range(size))
        call = Call(ids, self.loop.create_future(), tuple(range(seeds)), limit=limit, owner=owner)
        call.draws = [None] * seeds
        return call

    def listing(self, owner, top=3, size=5, seed=0):
        call = self.call(owner, limit=1, size=size, seed=seed)
        call.top, call.among = top, 264
        return call

    def step(self):
        with torch.inference_mode():
            self.worker.step()
        self.worker.deliver()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.steps += 1

    def run(self):
        while not self.worker.idle:
            self.step()


def test_a_small_search_is_not_behind_all_that_a_huge_one_asked(small):
    with Bench(small) as bench:
        huge = [bench.call("huge", seeds=2, limit=20, seed=i) for i in range(50)]
        bench.worker.enter(huge)
        for _ in range(3):
            bench.step()
        late = bench.call("small", limit=4)
        bench.worker.enter([late])
        while not late.future.done():
            bench.step()
        # one turn of the other at most is between: the rows in use end after 20 steps, then 4 of its own
        assert bench.steps <= 3 + 20 + 4 + 1
        assert sum(call.begun for call in huge) <= 8 + 2 * 8
        bench.run()
        assert all(len(call.future.result().draws) == 2 for call in huge)


def test_a_call_of_many_draws_leaves_room_for_what_came_with_it(small):
    with Bench(small, rows=2 * TURN) as bench:
        many, one = bench.call("many", seeds=100, limit=9), bench.call("one", limit=3)
        bench.worker.enter([many, one])
        for _ in range(3):
            bench.step()
        assert one.future.done() and not many.future.done()
        bench.run()
        assert len({draw.tokens for draw in many.future.result().draws}) == 100
        assert (many.tally.prefilled, many.tally.reused) == (5, 0)


def test_rows_are_shared_out_evenly_among_owners_that_wait(small):
    with Bench(small, rows=8) as bench:
        calls = {owner: [bench.call(owner, limit=6, seed=i) for i in range(30)] for owner in "abcd"}
        for owner in "abcd":
            bench.worker.enter(calls[owner])
        for _ in range(40):
            bench.step()
            begun = [sum(call.begun for call in calls[owner]) for owner in "abcd"]
            assert max(begun) - min(begun) <= 1
        for call in chain(*calls.values()):
            bench.worker.cancel(call)


def test_calls_of_one_owner_keep_their_order_and_those_that_are_over_are_left_out(small):
    turns = Turns()
    with Bench(small) as bench:
        calls = {name: bench.call(name[0], seed=int(name[1])) for name in ("a1", "a2", "a3", "b1")}
    turns.extend(calls.values())
    calls["a2"].over = True
    order = []
    while (call := turns.head()) is not None:
        order.append(call)
        turns.served(wholly=order.count(call) == 2)
    assert order == [calls[name] for name in ("a1", "b1", "a1", "b1", "a3", "a3")] and not turns


def test_a_large_call_gets_its_memory_although_small_ones_keep_coming(small):
    with Bench(small, slots=60) as bench:
        bench.worker.enter([bench.call("small", limit=8, seed=i) for i in range(4)])
        bench.step()
        large = bench.call("large", limit=50)
        bench.worker.enter([large])
        for i in range(200):
            bench.worker.enter([bench.call("small", limit=8, seed=4 + i)])
            bench.step()
            if large.future.done():
                break
        assert large.future.done()
        bench.run()


def test_a_straggler_holds_nobody(small):
    with Bench(small, rows=2) as bench:
        long = bench.call("a", limit=60)
        short = [bench.call("a", limit=5, seed=i) for i in range(1, 6)]
        bench.worker.enter([long, *short])
        for i, call in enumerate(short):
            while not call.future.done():
                bench.step()
            assert bench.steps <= 5 * (i + 1), "the row of a finished draw is taken in the next step"
        assert not long.future.done()
        bench.run()
        assert bench.steps == 60


def test_a_cancelled_call_frees_its_rows_within_one_step(small):
    with Bench(small, rows=4) as bench:
        long, waiting = bench.call("a", seeds=4, limit=60), bench.call("b", seeds=4, limit=60)
        bench.worker.enter([long, waiting])
        for _ in range(5):
            bench.step()
        assert waiting.begun == 0
        bench.worker.cancel(long)
        assert not bench.schedule.running and bench.kv.available == bench.kv.slots
        bench.step()
        assert waiting.begun == 4 and len(bench.schedule.running) == 4
        bench.worker.cancel(waiting)
        assert bench.worker.idle and bench.kv.locked == 0 and bench.schedule.promised == 0


@pytest.mark.parametrize("budget", [16, 40])
def test_prompts_are_computed_beside_running_draws_within_the_budget(small, budget, monkeypatch):
    sizes = []

    def counted(model, schedule, *more):
        computed = real(model, schedule, *more)
        sizes.append(0 if computed is None else len(computed.hidden))
        return computed

    real = worker.forward
    monkeypatch.setattr(worker, "forward", counted)
    with Bench(small, rows=8, budget=budget) as bench:
        first = bench.call("a", seeds=6, limit=30)
        bench.worker.enter([first])
        bench.step()
        long = bench.call("b", size=150, limit=2)
        bench.worker.enter([long])
        drawn = [int(bench.schedule.count[row.index]) for row in bench.schedule.running]
        while not long.future.done():
            bench.step()
            now = [int(bench.schedule.count[row.index]) for row in bench.schedule.running if row.call is first]
            assert not now or now == [count + 1 for count in drawn], "a long prompt holds no draw"
            drawn = now
        bench.run()
    assert max(sizes) <= budget
    assert budget in sizes, "what the draws leave of the budget goes to the prompt"


def test_lists_run_beside_draws_and_all_that_wait_together_in_one_forward(small, monkeypatch):
    with Bench(small, rows=16) as bench:
        draw = bench.call("a", seeds=2, limit=30)
        bench.worker.enter([draw])
        for _ in range(3):
            bench.step()
        paths = [bench.listing("b", size=9, seed=i) for i in range(6)]
        bench.worker.enter(paths)
        counts = [int(bench.schedule.count[row.index]) for row in bench.schedule.running]
        bench.step()
        assert all(call.future.done() for call in paths), "one forward computes the prompts and lists"
        assert [int(bench.schedule.count[row.index]) for row in bench.schedule.running] == [n + 1 for n in counts]
        # one token further, as a search by tokens asks
        more = []
        for call in paths:
            listed = call.future.result()
            more += [bench.listing("b") for _ in listed.tokens]
            for child, token in zip(more[-3:], listed.tokens, strict=True):
                child.ids = (*call.ids, token)
        bench.worker.enter(more)
        bench.step()
        done = sum(call.future.done() for call in more)
        assert done == 14, "as many as there are rows"
        bench.step()
        assert all(call.future.done() for call in more)
        assert {(call.tally.prefilled, call.tally.reused) for call in more} == {(1, 9)}
        # what was listed after is known: a draw and another list need no forward
        known = [bench.listing("c"), bench.call("c", limit=1)]
        for call in known:
            call.ids = more[0].ids
        forwards = []
        real = worker.forward
        monkeypatch.setattr(worker, "forward", lambda *more: forwards.append(real(*more)) or forwards[-1])
        bench.worker.cancel(draw)
        bench.worker.enter(known)
        bench.step()
        assert forwards == [None] and all(call.future.done() for call in known)
        assert known[0].future.result().tokens == more[0].future.result().tokens


def test_a_cancelled_list_is_forgotten(small):
    with Bench(small) as bench:
        gone, stays = bench.listing("a"), bench.listing("b")
        bench.worker.enter([gone, stays])
        bench.schedule.admit()
        bench.worker.cancel(gone)
        bench.step()
        assert stays.future.done() and not gone.future.done()
        assert bench.worker.idle and bench.kv.locked == 0
