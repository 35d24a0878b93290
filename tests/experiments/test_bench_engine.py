"""The benchmarks of the engine and its cache: what they compare is the same work, and all figures come out."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from experiments.bench import main, names
from experiments.benchmarks import cache, engine
from experiments.benchmarks.generate import Generate
from policies.embedded import Embedded
from search.algorithms.beam import Beam
from search.types import Finish, Prefix, Request


def lines(capsys):
    return {line["figure"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}


def test_what_benchmarks_use_is_no_benchmark():
    assert {"cache", "engine", "tree"} <= set(names())
    assert not {"generate", "figure"} & set(names())


def test_generate_draws_what_the_engine_draws():
    """Nearly greedy, in one batch of prompts of many lengths: padding, steps and ends are those of the engine."""

    async def both():
        async with Embedded(engine.MODEL, memory="64MB") as ours, Generate(engine.MODEL, rows=7) as theirs:
            some = engine.prompts(ours, 0, 10)
            for until in (engine.STEP, engine.STEP.to_the_end(200)):
                greedy = [Request(Prefix(p), replace(until, temperature=0.0), (1,)) for p in some]
                nearly = [Request(Prefix(p), replace(until, temperature=1e-3), (1, 2)) for p in some]
                expected = [reply.segments[0] for reply in await ours.sample(greedy)]
                found = [segment for reply in await theirs.sample(nearly) for segment in reply.segments]
                assert [(s.tokens, s.text, s.finish) for s in found] == [
                    (s.tokens, s.text, s.finish) for s in expected for _ in range(2)
                ]
                kind = Finish.STEP if until is engine.STEP else Finish.END
                assert all(segment.finish is kind for segment in expected)

    asyncio.run(both())


def test_the_figures_of_the_engine(capsys, monkeypatch):
    monkeypatch.delenv("TREEWISE_FULL", raising=False)
    for name, value in {"PROBLEMS": 2, "REPEATS": 1, "TOKENS": 4, "BEAM": Beam(1, 2, depth=2)}.items():
        monkeypatch.setattr(engine, name, value)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert main(["engine"]) == 0
    found = lines(capsys)
    assert {"engine.torch_share", "engine.decode_vs_generate_64", "engine.beam_vs_generate"} <= set(found)
    assert "engine.decode_vs_vllm_64" not in found, "absent where vLLM is"
    assert 0 < found["engine.torch_share"]["value"] < 1


def test_the_figures_of_the_cache(capsys, monkeypatch):
    monkeypatch.setattr(cache, "PROBLEMS", 2)
    monkeypatch.setattr(cache, "REPEATS", 1)
    assert main(["cache"]) == 0
    found = lines(capsys)
    assert found["cache.bytes_ratio"]["value"] == pytest.approx(1, abs=0.05)
    assert found["cache.saving_16_children"]["value"] >= 5
    assert found["cache.saving_reference"]["value"] > found["cache.saving_reference_different"]["value"] > 2


def test_memory_is_counted_by_the_open_draws(tmp_path):
    """A tree by hand: children differ, so draws and leaves are the same, and both are what the shape says; few end."""
    shape = cache.Shape(2, 6)
    held = asyncio.run(cache.hold(str(cache.alike(tmp_path)), shape, 0))
    assert held.draws == held.leaves

    async def lengths():
        async with Embedded(engine.MODEL, memory="16MB") as policy:
            tasks = (cache.Arithmetic(), cache.Countdown())
            some = [policy.prompt(t.messages(i)) for t in tasks for i in t.items()[: cache.PROBLEMS // 2]]
            return [len(prompt.tokens) for prompt in some], policy.engine.token_bytes

    prompts, token = asyncio.run(lengths())
    # of the first level 12 are open, of the second all 4 x 16; the last token of each has not been read
    open_rows = sum(12 * (n + 6 - 1) + 64 * (n + 12 - 1) for n in prompts)
    distinct = sum(n + 16 * 5 + 4 + 64 * 5 for n in prompts)
    assert 0.95 * open_rows * token < held.draws <= open_rows * token
    assert 0.9 * distinct < held.distinct / token <= distinct, "prompts begin alike"


def test_vllm_is_asked_for_the_same_tokens(monkeypatch):
    asked = []

    class LLM:
        def __init__(self, model, **settings):
            assert model == engine.MODEL

        def generate(self, prompts, sampling, use_tqdm):
            asked.append([prompt["prompt_token_ids"] for prompt in prompts])
            assert (sampling.max_tokens, sampling.ignore_eos) == (3, True)

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **s: SimpleNamespace(**s)))
    monkeypatch.setattr(engine, "REPEATS", 1)
    ratios = engine.compare_vllm(4, 3)
    assert len(ratios) == 1 and [len(batch) for batch in asked] == [4, 4] and asked[0] != asked[1]
