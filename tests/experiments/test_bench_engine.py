"""The benchmarks of the engine and its cache: what they compare is the same work, and all figures come out."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from experiments.bench import main, names
from experiments.benchmarks import beside_vllm, cache, engine, parts, shapes
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
    for name, value in {"PROBLEMS": 2, "REPEATS": 1, "TOKENS": 4, "BEAM": Beam(1, 2, depth=2)}.items():
        monkeypatch.setattr(engine, name, value)
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["engine"]) == 0
    told = capsys.readouterr()
    found = {line["figure"]: line for line in map(json.loads, told.out.splitlines())}
    assert {"engine.torch_share", "engine.decode_vs_generate_64", "engine.beam_vs_generate"} <= set(found)
    assert {f"engine.beam_{part}" for part in parts.PARTS} | {"engine.lists_read"} <= set(found)
    assert "engine.decode_vs_vllm_64" not in found, "absent where vLLM is"
    assert 0 < found["engine.torch_share"]["value"] < 1
    assert "on a GPU: not measured" in told.err


def test_shapes_are_measured_on_any_device(capsys, monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "0.5B", (64, 2, 2, 1, 96, 300, True))
    monkeypatch.setattr(shapes, "COPIED", 1 << 22)
    monkeypatch.setattr(shapes, "MEMORY", 16 << 20)
    for name, value in {"TOKENS": 6, "REPEATS": 1, "BATCHES": (1, 3), "GUESSED": (1, 2)}.items():
        monkeypatch.setattr(shapes, name, value)
    assert main(["engine", "shape=0.5B", "device=cpu", "dtype=float32"]) == 0
    found = lines(capsys)
    assert {f"engine.{what}.0.5B.{rows}" for what in ("step", "roofline") for rows in (1, 3)} <= set(found)
    assert {"engine.decode_vs_generate_3.0.5B", "engine.speculation.0.5B.2"} <= set(found)
    assert 0 < found["engine.roofline.0.5B.1"]["value"] < 1
    assert "; 1 of 1 rows the same" in found["engine.speculation.0.5B.1"]["note"]
    for wrong in (["shape=0.4B"], ["shape=7B", "dtype=int4"], ["size=3"], ["shape"]):
        assert main(["engine", *wrong]) == 2
        assert "is not valid" in capsys.readouterr().err
    assert main(["tree", "shape=7B"]) == 2


def test_the_bytes_of_a_step_are_counted(monkeypatch):
    for tied, heads in ((True, 1), (False, 2)):
        monkeypatch.setitem(shapes.SHAPES, "7B", (64, 2, 2, 1, 96, 300, tied))
        built = shapes.build("7B", "cpu", "bfloat16")
        layer = 64 * (64 + 32 + 32) + (64 + 32 + 32) + 64 * 64 + 3 * 64 * 96 + 2 * 64
        assert built.weights == 2 * (300 * 64 + 2 * layer + 64)
        assert sum(p.numel() for p in built.full.parameters()) == heads * 300 * 64 + 2 * layer + 64


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
    asked, modes, ended = [], [], []

    class LLM:
        def __init__(self, model, **settings):
            assert (model, settings["dtype"]) == (engine.MODEL, "float32")
            modes.append(settings["enforce_eager"])
            core = SimpleNamespace(shutdown=lambda: ended.append(self))
            self.llm_engine = SimpleNamespace(engine_core=core)

        def generate(self, prompts, sampling, use_tqdm):
            asked.append([prompt["prompt_token_ids"] for prompt in prompts])
            assert sampling.ignore_eos
            drawn = SimpleNamespace(token_ids=[1] * sampling.max_tokens)
            return [SimpleNamespace(outputs=[drawn]) for _ in prompts]

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=lambda **s: SimpleNamespace(**s)))
    for name in beside_vllm.SETTINGS:
        monkeypatch.setenv(name, "0")
    figure = beside_vllm.decoding(4, 3, 1)
    assert figure.figure == "engine.decode_vs_vllm_4" and 0 < figure.low <= figure.value
    assert modes == [False, True] and len(ended) == 2, "the faster way of vLLM counts"
    assert [len(batch) for batch in asked] == [4] * 4 and asked[0] != asked[1] and asked[:2] == asked[2:]
