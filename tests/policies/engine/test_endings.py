"""What ends a call: limits, rules, cancelling, a model that fails, a closed engine; nothing hangs or leaks."""

import asyncio
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from policies.engine import load
from policies.engine.engine import Engine
from policies.tiny import checkpoint
from search.errors import ConfigError, PolicyError

BIG = 8 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = checkpoint(tmp_path_factory.mktemp("small"), hidden=32, heads=1, end_bias=2.0)
    return load.language_model(Path(folder), "float32", "cpu")


class Running:
    """An engine for the time of a `with`."""

    def __init__(self, model, memory=BIG, **settings):
        self.engine = Engine(model, memory, **settings)

    def __enter__(self):
        self.engine.start()
        return self.engine

    def __exit__(self, *error):
        self.engine.close()
        if error[0] is None:
            self.engine.kv.check()


def some_ids(seed, size):
    return tuple(random.Random(seed).randrange(4, 260) for _ in range(size))


def tokens(drawn):
    return [draw.tokens for draw in drawn.draws]


def test_finishes_and_watchers(small):
    def after(count):
        def make():
            seen = []
            return lambda tokens, logprobs: seen.extend(tokens) or len(seen) == count

        return make

    ids = some_ids(9, 8)
    with Running(small) as engine:
        free = asyncio.run(engine.sample(ids, (4,), limit=12)).draws[0]
        assert free.finish == "length" and len(free.tokens) == 12
        stopped = asyncio.run(engine.sample(ids, (4,), limit=12, watch=after(5))).draws[0]
        assert (stopped.tokens, stopped.finish) == (free.tokens[:5], "stop")
        ended = asyncio.run(engine.sample(ids, (4,), limit=12, ends=frozenset({free.tokens[4]}), watch=after(5))).draws[
            0
        ]
        assert ended.finish == "end" and ended.tokens == free.tokens[: free.tokens.index(free.tokens[4]) + 1]
        both = asyncio.run(engine.sample(ids, (4,), limit=5, watch=after(5))).draws[0]
        assert both.finish == "stop", "the rule comes before the limit"


def test_a_cancelled_call_leaves_its_rows_to_others(small):
    async def run(engine):
        long = asyncio.create_task(engine.sample(some_ids(1, 5), tuple(range(4)), limit=400))
        queued = asyncio.create_task(engine.sample(some_ids(2, 5), (1,), limit=400))
        while not engine._worker._schedule.running:
            await asyncio.sleep(0)
        other = asyncio.create_task(engine.sample(some_ids(3, 5), (1,), limit=3))
        long.cancel()
        queued.cancel()
        drawn = await asyncio.wait_for(other, 20)
        assert len(drawn.draws[0].tokens) == 3
        for task in (long, queued):
            with pytest.raises(asyncio.CancelledError):
                await task
        # everything lent came back: the whole pool can be lent again
        again = await engine.sample(some_ids(4, 5), (1, 2, 3, 4), limit=5)
        assert len(again.draws) == 4

    with Running(small, rows=4) as engine:
        asyncio.run(run(engine))
        assert engine.kv.locked == 0 and engine.kv.available == engine.kv.slots


class Switch:
    """A backbone that can be broken."""

    def __init__(self, backbone):
        self.backbone, self.broken, self.used = backbone, False, False

    def __call__(self, **arguments):
        if self.broken:
            raise RuntimeError("no power")
        self.used = True
        return self.backbone(**arguments)


def test_a_failing_model_fails_the_calls_that_wait_and_not_the_next(small):
    switch = Switch(small.backbone)

    async def run(engine):
        calls = [engine.sample(some_ids(i, 5), (1, 2), limit=400) for i in range(3)] + [engine.read(some_ids(1, 4), 0)]
        tasks = [asyncio.create_task(call) for call in calls]
        while not switch.used:
            await asyncio.sleep(0)
        switch.broken = True
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert any(isinstance(r, PolicyError) and "no power" in str(r) for r in results)
        switch.broken = False
        assert len((await engine.sample(some_ids(1, 5), (1,), limit=5)).draws) == 1

    with Running(replace(small, backbone=switch)) as engine:
        asyncio.run(run(engine))


def test_a_failing_watcher_fails_its_own_call_alone(small):
    def broken():
        raise_after = iter([False, ZeroDivisionError])

        def watch(tokens, logprobs):
            if next(raise_after):
                raise ZeroDivisionError("rule")
            return False

        return watch

    async def run(engine):
        calls = [
            engine.sample(some_ids(1, 5), (1, 2), limit=9, watch=broken),
            engine.sample(some_ids(1, 5), (1, 2), limit=9),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    with Running(small) as engine:
        bad, good = asyncio.run(run(engine))
        assert engine.kv.locked == 0
    assert isinstance(bad, PolicyError) and isinstance(bad.__cause__, ZeroDivisionError)
    assert len(good.draws) == 2


def test_close_fails_what_waits_and_leaves_no_thread(small):
    async def run(engine):
        task = asyncio.create_task(engine.sample(some_ids(1, 5), (1,), limit=400))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(engine.close)
        with pytest.raises(PolicyError, match="closed"):
            await asyncio.wait_for(task, 20)
        with pytest.raises(PolicyError, match="closed"):
            await engine.sample(some_ids(1, 5), (1,), limit=4)

    with Running(small) as engine:
        asyncio.run(run(engine))
        engine.close()
    assert not [t for t in threading.enumerate() if t.name == "treewise-engine"]


def test_prompts_that_cannot_be_served_are_refused(small):
    with Running(small, context=40) as engine:
        for ids, limit in (((), 4), (some_ids(1, 38), 3)):
            with pytest.raises(PolicyError):
                asyncio.run(engine.sample(ids, (1,), limit=limit))
        assert asyncio.run(engine.sample(some_ids(1, 37), (1,), limit=3)).tally.generated == 3
        assert asyncio.run(engine.sample(some_ids(1, 5), (), limit=3)).draws == ()
        with pytest.raises(PolicyError):
            asyncio.run(engine.read(some_ids(1, 5), 5))


def test_memory_and_context_must_fit(small):
    with pytest.raises(ConfigError, match="memory"):
        Engine(small, 1000)
    with pytest.raises(ConfigError, match="max_context"):
        Engine(small, BIG, context=513)


def test_release_frees_and_changes_no_draw(small):
    ids = some_ids(5, 20)

    async def run(engine):
        before = await engine.sample(ids, (1,), limit=8)
        held = engine.kv.held
        engine.release(ids + before.draws[0].tokens, 20)
        again = await engine.sample(ids, (1,), limit=8)
        engine.release(ids, 0)
        await engine.sample(some_ids(6, 3), (1,), limit=1)
        return before, again, held

    with Running(small) as engine:
        before, again, held = asyncio.run(run(engine))
        assert engine.kv.held >= 3
    assert tokens(before) == tokens(again) and held == 27
    assert again.tally.reused == 20


def test_what_is_retained_is_forgotten_last(small):
    token = 2 * small.layers * small.heads * small.width * 4
    first, second, third = some_ids(1, 20), some_ids(2, 20), some_ids(3, 20)

    async def run(engine):
        await engine.sample(first, (1,), limit=1)
        await engine.sample(second, (1,), limit=1)
        engine.retain(first)
        await engine.sample(third, (1,), limit=1)
        return [len(engine.kv.match(ids).slots) for ids in (first, second, third)]

    with Running(small, memory=token * 51, context=30) as engine:
        assert asyncio.run(run(engine)) == [20, 0, 20]


def test_a_call_cancelled_before_it_entered_never_runs(small):
    async def run(engine):
        task = asyncio.create_task(engine.sample(some_ids(1, 5), (1,), limit=400))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        return await engine.sample(some_ids(2, 5), (1,), limit=2)

    with Running(small) as engine:
        asyncio.run(run(engine))
        assert engine.kv.held <= 6, "nothing of the cancelled call was computed"


def test_event_loops_in_several_threads_share_an_engine(small):
    results = {}

    def one(i):
        results[i] = asyncio.run(engine.sample(some_ids(3, 9), (i,), limit=20)).draws[0].tokens

    with Running(small) as engine:
        threads = [threading.Thread(target=one, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alone = asyncio.run(engine.sample(some_ids(3, 9), tuple(range(4)), limit=20))
    assert [results[i] for i in range(4)] == [draw.tokens for draw in alone.draws]
