"""Speculation: the same draws with it and without it, whoever guesses; nothing leaks; the counters are right."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.engine import load, shadow
from policies.engine.drafters import KEPT, Guesses, NGram, Recycle, coupled
from policies.engine.engine import Engine
from policies.engine.governor import Cost, Governor
from policies.engine.growth import Draft, Twig, tail
from policies.engine.kv import KV
from policies.engine.sampler import Numbers, Sampled, sample
from policies.engine.schedule import Call, Row, Scheduler
from policies.engine.shadow import DraftModel
from policies.engine.speculate import Speculation
from policies.engine.trial import _part
from policies.tiny import checkpoint

BIG = 8 << 20


class Clairvoyant:
    """Knows what will be drawn, and says so in a share of the cases: drafts as deep as they come."""

    name, kinds, wide, learns = "clairvoyant", 1, True, "none"

    def __init__(self, known, share=1.0, seed=0):
        self.known, self.share, self.rng = known, share, random.Random(seed)

    def begin(self, schedule, rows):
        self.drawn = {row: tail(schedule, row, int(schedule.count[row.index])) for row in rows}
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
        return lambda tokens, logprobs: seen.extend(tokens) or len(seen) == count

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


@pytest.mark.parametrize("context", [512, 40])
def test_a_draft_model_changes_no_draw(model, tmp_path_factory, context):
    """With lines for few of the rows, of another shape than the model's, and too short for some sequences."""
    folder = checkpoint(tmp_path_factory.mktemp("d"), "llama", hidden=32, heads=2, shared=1, context=context, seed=3)
    name = str(model.dtype).removeprefix("torch.")
    small = load.language_model(Path(folder), name, "cpu")
    plain = draws(model, None, several)
    speculation = Speculation([DraftModel(small, 6, context, model.vocabulary), NGram()], always(), most=60)
    same(draws(model, speculation, several), plain)
    assert speculation.counters.drafted["draft"] > 50


def test_a_draft_model_that_is_the_target_is_always_right(model, tmp_path_factory):
    async def grow(engine):
        ids, found = some_ids(5, 9), []
        for step in range(4):
            draw = (await engine.sample(ids, (step,), limit=11, temperature=0.8, top_k=8)).draws[0]
            found.append(draw)
            ids += draw.tokens[:7]
        return found

    twin = DraftModel(model, 4, 512, model.vocabulary)
    speculation = Speculation([twin], always())
    same(draws(model, speculation, grow), draws(model, None, grow))
    counters = speculation.counters
    # the first token comes with the prompt; then eleven or what the limit leaves of them at once
    assert counters.drafted_passes == 4
    assert [hit for _, hit in counters.by_depth[:9]] == [4] * 9
    assert sum(len(d.tokens) for d in draws(model, None, grow)) == 4 + counters.tokens


@pytest.mark.parametrize("native", [True, False], ids=["kernels", "torch"])
def test_lines_compute_what_the_model_does(model, native, monkeypatch):
    if not native:
        monkeypatch.setattr(shadow, "Native", str)  # which no backbone is
    ids = [some_ids(1, 20), some_ids(2, 13), some_ids(1, 16) + some_ids(9, 9)]
    twin = DraftModel(model, 3, 64, model.vocabulary)
    with torch.inference_mode():
        for line, row in enumerate(ids):
            assert twin._adopt(np.array(row), {0, 1, 2} - set(range(line))) == line
            twin._prefill([line])
        assert twin._valid.tolist() == [19, 12, 24]
        states = twin._run(np.array([0, 1, 2]), np.array([20, 13, 25]))
        tokens, logprobs = twin._lines.best(states, model.vocabulary)
        for row, best, found in zip(ids, tokens, logprobs, strict=True):
            kv = KV(model.layers, model.heads, model.width, len(row), model.dtype)
            expected = _part(model, kv, torch.tensor(row), 0, len(row))[-1].double().numpy()
            assert best.tolist() == np.argsort(-expected, kind="stable")[:KEPT].tolist()
            # up to a constant per context
            assert found - found[0] == pytest.approx(expected[best] - expected[best[0]], rel=1e-4, abs=1e-3)


def test_the_governor_drops_what_does_not_pay_and_keeps_what_does():
    for gain, often in ((0.5, False), (2.0, True)):
        governor, drafted = Governor(), 0
        for _ in range(2000):
            want = governor.wanted(8)
            drafted += want
            seconds = 0.002 / gain * 3 if want else 0.002
            governor.observe(8, want, 32 if want else 8, 0, 24 if want else 8, seconds, 0.0)
        assert drafted > 1700 if often else drafted < 120


def test_the_governor_recovers_from_a_wrong_first_impression():
    """The engine was disturbed while it was seen without drafts, which are in truth worth half as much."""
    governor, drafted = Governor(), 0
    for step in range(4000):
        want = governor.wanted(8)
        drafted += want
        seconds = 0.012 if want else 0.012 if step < 40 else 0.002
        governor.observe(8, want, 32 if want else 8, 0, 24 if want else 8, seconds, 0.0)
    assert drafted < 400


def test_the_cost_of_a_token_is_found_in_noise():
    rng, cost = np.random.default_rng(0), Cost()
    for _ in range(400):
        size = int(rng.integers(1, 60))
        cost.observe(size, (0.001 + 0.00003 * size) * (5.0 if rng.random() < 0.05 else rng.uniform(0.9, 1.1)))
    assert cost.fixed == pytest.approx(0.001, rel=0.25) and cost.token == pytest.approx(0.00003, rel=0.3)


def test_a_guess_with_the_true_distribution_is_the_samplers_draw():
    """Coupled guesses from the sampler's own ten likeliest are what it draws."""
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.normal(0, 3, (400, 10)))
    line = np.arange(400)
    top = torch.log_softmax(logits, -1).topk(10)
    guesses = Guesses(top.indices.numpy(), top.values.numpy(), np.zeros(400, np.int64))
    for heat, top_k, top_p in SETTINGS:
        settings = (np.full(400, heat), np.full(400, top_k), np.full(400, top_p))
        first, second, lead = coupled(guesses, line * 3, line % 7, *settings)
        drawn = sample(logits, Numbers(line * 3, line % 7, *settings)).tokens
        assert (first == drawn).all()
        assert (second != first).all() and (lead >= 0).all()


def test_a_tree_sees_its_ancestors_within_the_window():
    """Against the definition: node i sees what is before the tree, its ancestors and itself, by distance."""
    twig = Twig()
    for token, parent in ((5, 0), (6, 0), (7, 1), (8, 3), (9, 2)):
        twig.add(token, parent, 0)
    kv = KV(1, 1, 2, 60, torch.float32)
    schedule = Scheduler(kv, 2, 100)
    row = Row(Call(tuple(range(20, 27)), None, (1,), limit=30), 0, 0, kv.root, None)
    schedule.running, schedule.count[0], schedule.length[0] = [row], 1, 7
    schedule.table[0, :7] = kv.take(7)
    draft, groups = Draft([row], [twig]), []
    assert draft.lay(schedule, [], [], [], groups) == 6
    for window in (0, 3):
        shown = (groups[0].mask(window, 1, torch.float32)[0, 0] == 0).tolist()
        for i in range(6):
            path = [i]
            while twig.parents[path[-1]] >= 0:
                path.append(twig.parents[path[-1]])
            places = dict(enumerate(range(7))) | {7 + j: 7 + twig.depths[j] for j in path}
            own = places[7 + i]
            expected = [c in places and (not window or places[c] > own - window) for c in range(13)]
            assert shown[i] == expected
    slots = groups[0].table.tolist()
    assert twig.walk([6, 0, 9, 0, 0, 0]) == [0, 2, 5]
    drawn = Sampled(np.array([6, 0, 9, 0, 0, 4]), np.zeros(6))
    free = kv._left
    assert draft.settle(schedule, drawn) == [[0, 2, 5]]
    assert schedule.tokens[0, 1:4].tolist() == [6, 9, 4] and schedule.count[0] == 4
    assert schedule.table[0, 7:10].tolist() == [slots[7], slots[9], slots[12]]
    assert kv._left == free + 3
