"""The engine's laws on random tiny models: cached = uncached, alone = together, computed once, no hang."""

import asyncio
import math
import os
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.native.backbone import Native
from policies.engine.trial import agree
from policies.tiny import checkpoint
from search.errors import ConfigError, PolicyError

BIG = 8 << 20
FULL = os.environ.get("TREEWISE_FULL") == "1"
SHAPES = [("qwen2", 2, 1), ("llama", 4, 2)]  # architecture, heads, key heads


@pytest.fixture(scope="module", params=SHAPES, ids=lambda s: f"{s[0]}-{s[1]}-{s[2]}")
def folder(request, tmp_path_factory):
    architecture, heads, shared = request.param
    return checkpoint(tmp_path_factory.mktemp("model"), architecture, heads=heads, shared=shared, end_bias=2.0)


@pytest.fixture(scope="module", params=[(True, True), (True, False), (False, False)], ids=["native", "lean", "plain"])
def model(request, folder):
    return load.language_model(Path(folder), "float32", "cpu", *request.param)


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


def plain_logits(folder, ids):
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("budget", [2048, 7])
def test_logits_read_in_parts_and_together_equal_the_plain_model(folder, model, budget):
    ids = some_ids(1, 60)
    expected = plain_logits(folder, ids)
    others = [ids[:k] + some_ids(k, 20) for k in (1, 13, 30, 59)]

    async def read(engine):
        parts = [await engine.read(ids[:20], 0), await engine.read(ids[:21], 20), await engine.read(ids, 21)]
        again = await engine.read(ids, 10)
        forks = await asyncio.gather(*(engine.read(other, 0) for other in others))
        return parts, again, forks

    with Running(model, budget=budget) as engine:
        parts, again, forks = asyncio.run(read(engine))
    close = {"rtol": 0, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(torch.cat([part.values for part in parts]), expected, **close)
    torch.testing.assert_close(again.values, expected[10:], **close)
    for other, fork in zip(others, forks, strict=True):
        torch.testing.assert_close(fork.values, plain_logits(folder, other), **close)
    assert [part.tally.prefilled for part in parts] == [20, 1, 39]
    assert [part.tally.reused for part in parts] == [0, 20, 21]


def test_likelihoods_equal_the_plain_model(folder, model):
    ids = some_ids(2, 40)
    expected = torch.log_softmax(plain_logits(folder, ids), -1)
    with Running(model) as engine:
        outputs = asyncio.run(engine.read(ids, 14, likelihood=True))
    chosen = expected[torch.arange(14, 39), torch.tensor(ids[15:])]
    torch.testing.assert_close(outputs.values[:, 0], chosen, rtol=0, atol=1e-3)
    torch.testing.assert_close(outputs.values[:, 1], expected[14:39].amax(-1), rtol=0, atol=1e-3)
    assert outputs.tally.prefilled == 39, "the last id needs no forward"


def test_draws_alone_equal_draws_among_others(model):
    prompts = [some_ids(seed, 5 + seed % 9) for seed in range(64)]

    async def together(engine):
        return await asyncio.gather(*(engine.sample(p, (i,), limit=8, top_p=0.95) for i, p in enumerate(prompts)))

    async def one_by_one(engine):
        return [await engine.sample(p, (i,), limit=8, top_p=0.95) for i, p in enumerate(prompts)]

    with Running(model) as engine:
        batch = asyncio.run(together(engine))
    with Running(model, rows=3, budget=5) as engine:
        narrow = asyncio.run(together(engine))
    with Running(model) as engine:
        alone = asyncio.run(one_by_one(engine))
    assert list(map(tokens, batch)) == list(map(tokens, alone)) == list(map(tokens, narrow))
    assert len({draw for drawn in batch for draw in tokens(drawn)}) > 50
    for a, b in zip(batch, alone, strict=True):
        assert a.draws[0].logprobs == pytest.approx(b.draws[0].logprobs, abs=1e-4)


def test_lists_equal_the_plain_model_alone_and_among_draws(folder, model):
    paths = [some_ids(1, 20) + some_ids(k, k % 5) for k in range(12)]
    expected = [plain_logits(folder, ids)[-1, :200].log_softmax(-1).sort(descending=True) for ids in paths]

    async def ask(engine):
        draws = [engine.sample(ids, (k,), limit=9) for k, ids in enumerate(paths[::2])]
        lists = [engine.likeliest(ids, 1 + k % 4, among=200) for k, ids in enumerate(paths)]
        mixed = await asyncio.gather(*draws, *lists)
        return mixed[: len(draws)], mixed[len(draws) :], [await engine.likeliest(ids, 4, among=200) for ids in paths]

    with Running(model) as engine:
        drawn, listed, again = asyncio.run(ask(engine))
        for top, among in ((0, 9), (3, 2), (1, model.vocabulary + 1)):
            with pytest.raises(PolicyError, match="listed"):
                asyncio.run(engine.likeliest(paths[0], top, among=among))
    with Running(model) as other:
        alone = asyncio.run(draws_of(other, paths[::2]))
    assert list(map(tokens, drawn)) == list(map(tokens, alone)), "lists change no draw"
    for k, (truth, one, two) in enumerate(zip(expected, listed, again, strict=True)):
        assert list(two.tokens) == truth.indices[:4].tolist() and one.tokens == two.tokens[: 1 + k % 4]
        assert two.logprobs == pytest.approx(truth.values[:4].tolist(), abs=1e-3)
        assert (two.tally.prefilled, two.tally.reused) == (0, len(paths[k]))


async def draws_of(engine, prompts):
    return [await engine.sample(ids, (k,), limit=9) for k, ids in enumerate(prompts)]


def test_a_request_of_many_seeds_computes_the_prompt_once_and_its_first_tokens_differ(small):
    ids = some_ids(3, 30)
    with Running(small) as engine:
        drawn = asyncio.run(engine.sample(ids, tuple(range(40)), limit=4))
        again = asyncio.run(engine.sample(ids, tuple(range(40, 43)), limit=4))
        three = asyncio.run(engine.sample(ids, (41, 0), limit=4))
    assert (drawn.tally.prefilled, drawn.tally.reused) == (30, 0)
    assert (again.tally.prefilled, again.tally.reused) == (0, 30), "the state at the prompt's end is kept"
    assert tokens(three) == [tokens(again)[1], tokens(drawn)[0]]
    assert len({draw.tokens[0] for draw in drawn.draws}) > 5
    assert drawn.tally.generated == sum(len(draw.tokens) for draw in drawn.draws)


def test_branching_from_what_was_drawn_equals_a_fresh_prompt(model):
    ids = some_ids(4, 12)
    with Running(model) as engine:
        first = asyncio.run(engine.sample(ids, (1,), limit=10)).draws[0]
        for cut in (3, len(first.tokens)):
            longer = ids + first.tokens[:cut]
            warm = asyncio.run(engine.sample(longer, (5, 6), limit=10))
            with Running(model) as other:
                fresh = asyncio.run(other.sample(longer, (5, 6), limit=10))
            assert tokens(warm) == tokens(fresh)
            assert warm.tally.prefilled == 1 and fresh.tally.prefilled == len(longer)


def counted(asked):
    """Independently of the engine: prompt tokens that each of `asked`, in this order, has to have computed."""
    known, ended, counts = set(), set(), []
    for path in asked:
        new = [path[: i + 1] for i in range(len(path)) if path[: i + 1] not in known]
        # a prompt that ends inside another has its last token computed again, for its output, when first asked
        counts.append(len(new) or int(path not in ended))
        known.update(new)
        ended.add(path)
    return counts, known


@pytest.mark.parametrize("budget", [2048, 6])
@pytest.mark.parametrize("together", [True, False])
def test_a_prompt_token_is_computed_once(small, together, budget):
    """Against an independent count over random trees: 5 in each case, or 250 with TREEWISE_FULL=1."""
    for seed in range(250 if FULL else 5):
        rng = random.Random(seed)
        paths = [some_ids(seed, 3)]
        for _ in range(25):
            paths.append(rng.choice(paths) + tuple(rng.randrange(4, 7) for _ in range(rng.randrange(1, 5))))
        asked = [*rng.sample(paths, len(paths)), *rng.choices(paths, k=3)]
        expected, distinct = counted(asked)

        async def ask(engine, asked=asked):
            # draws of one token leave nothing of their own in the cache
            calls = [engine.sample(path, (1, 2), limit=1) for path in asked]
            return await asyncio.gather(*calls) if together else [await call for call in calls]

        with Running(small, memory=1 << 19, budget=budget) as engine:
            tallies = [drawn.tally for drawn in asyncio.run(ask(engine))]
            assert engine.kv.held == len(distinct)
        assert [tally.prefilled for tally in tallies] == expected
        assert [tally.reused for tally in tallies] == [len(p) - n for p, n in zip(asked, expected, strict=True)]


def test_a_beginning_is_shared_across_problems_and_owners(small):
    system = some_ids(11, 40)
    prompts = [system + some_ids(seed, 6) for seed in range(12)]

    async def ask(engine):
        return await asyncio.gather(*(engine.sample(p, (1, 2), limit=1, owner=i) for i, p in enumerate(prompts)))

    with Running(small) as engine:
        tallies = [drawn.tally for drawn in asyncio.run(ask(engine))]
        assert engine.kv.held == 40 + 12 * 6
    assert sorted(tally.reused for tally in tallies) == [0] + [40] * 11


def test_growing_a_tree_step_by_step_computes_one_prompt_token_per_node(small):
    async def grow(engine):
        nodes, computed = [some_ids(7, 10)], 0
        for depth in range(4):
            drawn = await asyncio.gather(*(engine.sample(ids, (depth, 99), limit=6) for ids in nodes))
            assert sum(d.tally.prefilled for d in drawn) == (10 if depth == 0 else len(nodes))
            assert all(d.tally.prefilled + d.tally.reused == len(i) for d, i in zip(drawn, nodes, strict=True))
            computed += sum(d.tally.prefilled for d in drawn)
            nodes = [ids + draw.tokens for ids, d in zip(nodes, drawn, strict=True) for draw in d.draws]
        return len(nodes)

    with Running(small) as engine:
        assert asyncio.run(grow(engine)) == 16


def test_hardly_any_memory_gives_the_same_draws(small):
    prompts = [some_ids(8, 10) + some_ids(seed, seed % 7 + 1) for seed in range(24)]
    token = 2 * small.layers * small.heads * small.width * 4

    async def ask(engine):
        first = await asyncio.gather(*(engine.sample(p, (1, 2, 3), limit=12) for p in prompts))
        return first + await asyncio.gather(*(engine.sample(p, (1, 2, 3), limit=12) for p in prompts))

    with Running(small) as engine:
        rich = asyncio.run(ask(engine))
        need = engine.kv.held
    with Running(small, memory=token * (need // 10), context=30) as engine:
        poor = asyncio.run(ask(engine))
        assert engine.kv.held <= need // 10
    assert list(map(tokens, rich)) == list(map(tokens, poor))
    assert sum(d.tally.prefilled for d in poor) > sum(d.tally.prefilled for d in rich)


def test_the_start_check_passes_real_models_and_stops_others(folder, model, monkeypatch):
    agree(model, "good")
    with monkeypatch.context() as patch:
        if isinstance(model.backbone, Native):
            patch.setattr(model.backbone._kernels, "forward", lambda *numbers: True)
        patch.setattr("policies.engine.attention.scaled_dot_product_attention", lambda q, k, v, **_: q)
        with pytest.raises(ConfigError, match="another back end"):
            agree(model, "wrong attention")
    changed = load.language_model(Path(folder), "float32", "cpu", native=False)
    changed.backbone._eps = 1.0
    with pytest.raises(ConfigError, match="another back end"):
        agree(changed, "wrong norm")


def test_bfloat16_draws_and_their_log_probabilities(folder):
    model = load.language_model(Path(folder), "bfloat16", "cpu")
    agree(model, "bf16")
    with Running(model) as engine:
        drawn = asyncio.run(engine.sample(some_ids(1, 9), (1, 2), limit=6, temperature=0.8))
    assert all(len(draw.tokens) == 6 and max(draw.logprobs) <= 0 for draw in drawn.draws)
    assert all(math.isfinite(x) for draw in drawn.draws for x in draw.logprobs)
