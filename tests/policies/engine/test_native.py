"""The kernels compute what torch does, and the same bits in whatever company; their draws are the sampler's."""

import asyncio
import json
import logging
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.engine import load
from policies.engine.drafters import NGram, Recycle
from policies.engine.engine import Engine
from policies.engine.governor import Governor
from policies.engine.kv import KV
from policies.engine.native import build
from policies.engine.native.backbone import Native, Product, kernels
from policies.engine.native.draws import draw
from policies.engine.sampler import Numbers, _race, sample
from policies.engine.speculate import Speculation
from policies.engine.trial import _part, agree
from policies.tiny import checkpoint
from search.errors import PolicyError

pytestmark = pytest.mark.skipif(build.library() is None, reason="there is no C++ compiler here")

# architecture, hidden, heads, key heads, and more: one vector in a head and four; one, two and three queries a key
SHAPES = [
    ("qwen2", {"hidden": 64, "heads": 2, "shared": 1}),
    ("llama", {"hidden": 128, "heads": 2, "shared": 2}),
    ("qwen2", {"hidden": 96, "heads": 6, "shared": 2}),
    ("mistral", {"hidden": 64, "heads": 4, "shared": 4}),  # with a sliding window
    ("llama", {"hidden": 256, "heads": 4, "shared": 2, "inner": 1024}),  # of which threads share the columns
]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda s: f"{s[0]}-{s[1]['heads']}")
def folder(request, tmp_path_factory):
    architecture, shape = request.param
    found = checkpoint(tmp_path_factory.mktemp("model"), architecture, **shape)
    if architecture == "mistral":
        config = found / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"sliding_window": 9}))
    return found


def some_ids(seed, size):
    return tuple(random.Random(seed).randrange(4, 260) for _ in range(size))


def states(model, ids, parts):
    """Final states of `ids`, computed in parts of so many tokens."""
    kv = KV(model.layers, model.heads, model.width, len(ids), model.dtype)
    with torch.inference_mode():
        ends = np.cumsum(parts).tolist()
        return torch.cat([_part(model, kv, torch.tensor(ids), a, b) for a, b in zip([0, *ends], ends, strict=False)])


@pytest.mark.parametrize("dtype, near", [("float32", 2e-5), ("float64", 1e-12)])
def test_the_kernels_compute_what_torch_does(folder, dtype, near):
    ours, theirs = (load.language_model(folder, dtype, "cpu", native=native) for native in (True, False))
    assert isinstance(ours.backbone, Native) and not isinstance(theirs.backbone, Native)
    agree(ours, "kernels")
    ids = some_ids(1, 60)
    expected = states(theirs, ids, [60])
    for parts in ([60], [1] * 60, [25, 1, 34]):
        torch.testing.assert_close(
            states(ours, ids, parts), expected, rtol=near, atol=near * float(expected.abs().max())
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_token_is_the_same_to_the_last_bit_in_parts_of_any_size_and_by_any_number_of_threads(folder, dtype):
    model = load.language_model(folder, dtype, "cpu")
    ids, threads = some_ids(2, 100), torch.get_num_threads()
    expected = states(model, ids, [100])
    try:
        for number in (1, 2, 3, 5):
            torch.set_num_threads(number)
            for parts in ([100], [1] * 100, [13, 50, 37], [64, 36]):
                assert torch.equal(states(model, ids, parts), expected)
    finally:
        torch.set_num_threads(threads)


def test_ids_and_positions_that_the_model_does_not_have_are_refused(folder):
    model = load.language_model(folder, "float32", "cpu")
    for ids in ([4, model.vocabulary], [-1, 5]):
        with pytest.raises(IndexError, match="more than the model has"):
            states(model, ids, [2])
    with pytest.raises(IndexError, match="more than the model has"):
        states(model, [5] * (model.context + 1), [model.context + 1])


def test_one_model_may_serve_several_threads(folder):
    model, ids = load.language_model(folder, "float32", "cpu"), some_ids(4, 90)
    expected = states(model, ids, [90])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: states(model, ids, [40, 50]), range(24)))
    assert all(torch.equal(each, expected) for each in found)


def run(model, ask, speculation=None, **settings):
    engine = Engine(model, settings.pop("memory", 8 << 20), speculation=speculation, **settings)
    engine.start()
    try:
        return asyncio.run(ask(engine))
    finally:
        engine.close()
        engine.kv.check()


def test_no_draw_and_no_log_probability_depends_on_company_memory_schedule_or_guesses(folder):
    """To the last bit, in float32."""
    model = load.language_model(folder, "float32", "cpu")
    prompts = [some_ids(3, 8) + some_ids(seed, seed % 7 + 1) for seed in range(12)]
    how = {"temperature": 0.8, "limit": 14}

    async def together(engine):
        drawn = await asyncio.gather(
            *(engine.sample(p, (1, 2, 3), top_p=(1.0, 0.9)[len(p) % 2], **how) for p in prompts)
        )
        read = await asyncio.gather(*(engine.read(p, 0, likelihood=True) for p in prompts))
        return [d.draws for d in drawn], [r.values.tolist() for r in read]

    async def alone(engine):
        drawn, read = [], []
        for p in prompts:
            draws = ()
            for seed in (1, 2, 3):
                draws += (await engine.sample(p, (seed,), top_p=(1.0, 0.9)[len(p) % 2], **how)).draws
            drawn.append(draws)
            read.append((await engine.read(p, 0, likelihood=True)).values.tolist())
        return drawn, read

    expected = run(model, together)
    token = 2 * model.layers * model.heads * model.width * 4
    assert run(model, alone) == expected
    assert run(model, together, rows=3, budget=5) == expected
    assert run(model, together, memory=40 * token, context=32) == expected, "evicted and computed again"
    assert run(model, together, threads=3) == expected
    for drafters in ([NGram()], [Recycle(model.vocabulary)]):
        speculation = Speculation(drafters, Governor(forced=True), most=64)
        for _ in range(2):
            assert run(model, together, speculation) == expected
        assert sum(speculation.counters.accepted.values()) > 20


@pytest.mark.parametrize(
    "rows, size, out",
    [(1, 16, 16), (2, 48, 33), (11, 80, 7), (12, 32, 64), (13, 16, 1), (300, 64, 100), (5, 1024, 1200)],
)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_right_and_each_row_for_itself(rows, size, out, biased):
    generator = torch.Generator().manual_seed(rows)
    weight, x = torch.randn(out, size, generator=generator), torch.randn(rows, size, generator=generator)
    bias = torch.randn(out, generator=generator) if biased else None
    found = kernels(torch.nn.Linear(2, 2))
    product = Product(found, weight, bias)
    y = product(x)
    threads = torch.get_num_threads()
    try:  # of the last, threads share the columns
        torch.set_num_threads(3)
        assert torch.equal(product(x), y)
    finally:
        torch.set_num_threads(threads)
    expected = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-3 if size > 100 else 1e-4)
    assert all(torch.equal(product(x[i : i + 1])[0], y[i]) for i in range(rows))


@pytest.mark.parametrize("size", [7, 16, 416, 5003])
def test_draws_are_those_of_the_rule(size):
    generator = torch.Generator().manual_seed(size)
    logits = 3 * torch.randn(500, size, generator=generator)
    heat = np.random.default_rng(0).choice([0.0, 0.3, 1.0, 2.0], 500)
    numbers = Numbers(np.arange(500) ** 3 - 99, np.arange(500) % 77, heat, np.zeros(500, np.int64), np.ones(500))
    tokens, logprobs = draw(logits, numbers.seeds, numbers.positions, heat)
    expected, weights = _race(logits, numbers, heat.astype(np.float32))
    assert tokens.tolist() == expected.tolist()
    assert logprobs == pytest.approx(weights, rel=1e-5, abs=1e-6)


def test_the_first_of_equals_is_the_likeliest_and_what_is_cut_is_never_drawn():
    heat, seeds = np.array([0.0]), np.array([3])
    level = torch.zeros(1, 40)
    assert draw(level, seeds, seeds, heat)[0].tolist() == [0]
    level[0, 17] = level[0, 33] = 1.0
    assert draw(level, seeds, seeds, heat)[0].tolist() == [17]
    level[:] = -torch.inf
    level[0, [5, 39]] = 0.0
    seen = {int(draw(level, np.array([i]), seeds, np.array([1.0]))[0][0]) for i in range(50)}
    assert seen == {5, 39}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_logits_that_are_not_finite_are_refused(bad, heat):
    logits = torch.zeros(2, 30)
    logits[1] = bad
    numbers = Numbers(*(np.zeros(2, np.int64),) * 2, np.full(2, heat), np.zeros(2, np.int64), np.ones(2))
    with pytest.raises(PolicyError, match="not finite"):
        sample(logits, numbers)


def test_what_the_kernels_do_not_suit_runs_by_torch(tmp_path):
    odd = checkpoint(tmp_path / "odd", hidden=72, heads=3, shared=1)  # 24 numbers in a head
    assert not isinstance(load.language_model(odd, "float32", "cpu").backbone, Native)
    even = checkpoint(tmp_path / "even")
    assert not isinstance(load.language_model(even, "bfloat16", "cpu").backbone, Native)


@pytest.fixture
def anew():
    """The library is looked for again, before and after."""
    build.library.cache_clear()
    yield
    build.library.cache_clear()


@pytest.mark.parametrize("compiler", ["", "#!/bin/sh\n[ $1 = --version ] && exit 0\necho no such header >&2\nexit 1\n"])
def test_without_a_compiler_that_works_it_is_said_and_torch_does_the_work(
    tmp_path, monkeypatch, caplog, anew, compiler
):
    folder = checkpoint(tmp_path / "model")
    (tmp_path / "bin").mkdir()
    if compiler:
        (tmp_path / "bin" / "c++").write_text(compiler)
        (tmp_path / "bin" / "c++").chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin" + (":/bin" if compiler else ""))
    monkeypatch.setattr(build, "_folders", lambda: (tmp_path / "cache",))
    if compiler:
        monkeypatch.setattr(
            build.shutil, "which", lambda name: str(tmp_path / "bin" / "c++") if name == "c++" else None
        )
    with caplog.at_level(logging.WARNING, "treewise"):
        model = load.language_model(folder, "float32", "cpu")
        load.language_model(folder, "float32", "cpu")
    assert not isinstance(model.backbone, Native)
    (record,) = [r for r in caplog.records if r.name == "treewise"]
    assert ("no such header" if compiler else "no C++ compiler") in record.message and "slower" in record.message
    assert not list((tmp_path / "cache").glob("*.so"))


def test_the_library_is_compiled_once_by_whoever_comes_first(tmp_path):
    """Two processes at once, and a third later, which compiles nothing."""
    code = "import logging; logging.basicConfig(level=logging.INFO)\n"
    code += "from policies.engine.native.build import library\nassert library() is not None"
    environment = {
        "XDG_CACHE_HOME": str(tmp_path),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(Path.cwd()),
    }

    def start():
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)

    both = [start(), start()]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0] and sum("compiling" in text for text in said) == 1
    (library,) = (tmp_path / "treewise").glob("*.so")
    third = start()
    assert "compiling" not in third.communicate(timeout=300)[1] and third.returncode == 0
    assert library.stat().st_uid == (tmp_path).stat().st_uid
