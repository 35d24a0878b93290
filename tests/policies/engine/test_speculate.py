"""Speculation: the same draws with it and without it, whoever guesses; nothing leaks; the counters are right."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest

from policies.engine import load
from policies.engine.drafters import KEPT, Guesses, NGram, Recycle
from policies.engine.engine import Engine
from policies.engine.governor import Governor
from policies.engine.speculate import Speculation
from policies.tiny import checkpoint

BIG = 8 << 20


class Clairvoyant:
    """Knows what will be drawn, and says so in a share of the cases: drafts as deep as they come."""

    name, kinds, wide, learns = "clairvoyant", 1, True, "none"

    def __init__(self, known, share=1.0, seed=0):
        self.known, self.share, self.rng = known, share, random.Random(seed)

    def begin(self, schedule, rows):
        self.drawn = {row: schedule.tail(row, int(schedule.count[row.index])) for row in rows}
        return [True] * len(rows)

    def guess(self, contexts):
        tokens = np.array([[self.rng.randrange(4, 260) for _ in range(3)] for _ in contexts])
        for c, (row, path) in enumerate(contexts):
            line, at = self.known[row.call.seeds[row.draw]], len(self.drawn[row]) + len(path)
            if at < len(line) and self.rng.random() < self.share:
                tokens[c, self.rng.randrange(2)] = line[at]
        # so far apart that the noise changes nothing
        return Guesses(tokens, np.tile([0.0, -200.0, -400.0], (len(tokens), 1)), np.zeros(len(tokens), np.int64))

    def learn(self, before, tokens, logprobs):
        raise AssertionError("it did not ask")

    def forget(self):
        pass


@pytest.fixture(scope="module", params=["float64", "float32"])
def model(request, tmp_path_factory):
    folder = checkpoint(tmp_path_factory.mktemp("m"), heads=4, shared=2, end_bias=2.0)
    return load.language_model(Path(folder), request.param, "cpu")


def some_ids(seed, size):
    return tuple(random.Random(seed).randrange(4, 260) for _ in range(size))


def draws(model, speculation, ask, **settings):
    engine = Engine(model, settings.pop("memory", BIG), speculation=speculation, **settings)
    engine.start()
    try:
        result = asyncio.run(ask(engine))
    finally:
        engine.close()
    engine.kv.check()
    assert engine.kv.locked == 0 and engine.kv.available == engine.kv.slots
    return result


def after(count):
    def make():
        seen = []
        return lambda token: seen.append(token) or len(seen) == count

    return make


SETTINGS = [(0.0, 0, 1.0), (0.8, 0, 1.0), (1.0, 0, 0.9), (0.7, 5, 1.0)]


async def several(engine):
    """Calls of all sorts at once: seeds 0..39, ends and stops at many places."""
    calls = [
        engine.sample(
            some_ids(i // 2, 5 + i % 4),
            tuple(range(4 * i, 4 * i + 4)),
            temperature=SETTINGS[i % 4][0],
            top_k=SETTINGS[i % 4][1],
            top_p=SETTINGS[i % 4][2],
            limit=(24, 1, 2, 17)[i % 4],
            ends=frozenset({1}) | (frozenset(range(40, 60)) if i % 2 else frozenset()),
            watch=after(13) if i % 5 == 0 else None,
        )
        for i in range(10)
    ]
    return [draw for drawn in await asyncio.gather(*calls) for draw in drawn.draws]


def always():
    return Governor(forced=True)


def same(a, b):
    assert [(x.tokens, x.finish) for x in a] == [(x.tokens, x.finish) for x in b]
    for x, y in zip(a, b, strict=True):
        assert x.logprobs == pytest.approx(y.logprobs, abs=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_guesses_change_no_draw_however_many_are_right(model, share):
    plain = draws(model, None, several)
    known = {i: draw.tokens for i, draw in enumerate(plain)}
    speculation = Speculation([Clairvoyant(known, share)], always(), most=200)
    same(draws(model, speculation, several), plain)
    counters = speculation.counters
    assert sum(counters.drafted.values()) > 100
    assert sum(n for n, _ in counters.by_depth) == sum(counters.drafted.values())
    assert sum(hit for _, hit in counters.by_depth) == sum(counters.accepted.values())
    assert counters.tokens == counters.drafted_passes + sum(counters.accepted.values())
    assert sum(counters.accepted.values()) < 10 if share == 0 else counters.tokens > 1.3 * counters.drafted_passes


@pytest.mark.parametrize("make", [NGram, lambda: Recycle(264)], ids=["ngram", "recycle"])
def test_what_was_seen_changes_no_draw(model, make):
    async def twice(engine):
        return [await several(engine), await several(engine)]

    plain = draws(model, None, several)
    speculation = Speculation([make()], always(), most=100)
    for again in draws(model, speculation, twice):
        same(again, plain)
    assert sum(speculation.counters.accepted.values()) > 10
