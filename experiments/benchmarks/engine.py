"""What the engine brings: a beam search and plain decoding against `transformers` `generate`; time inside torch.

Both sides run in this process, in turn, with one thread. What is compared is processor time of the whole process, which
is the wall time of an idle core: other work on the machine hardly touches it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from experiments.benchmarks import beside_vllm, parts, shapes
from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.generate import Generate
from experiments.benchmarks.workload import MODEL, STEP, Hashed, one_thread, prompts
from policies.embedded import Embedded
from policies.engine.calls import Call
from policies.engine.kv import KV
from policies.engine.load import language_model
from policies.engine.native.backbone import Native
from policies.engine.native.draws import draw
from policies.engine.sampler import sample
from policies.engine.schedule import Scheduler
from policies.engine.worker import Worker
from search.algorithms.beam import Beam
from search.types import Segment

__all__ = ["MODEL", "STEP", "Hashed", "figures", "one_thread", "prompts"]

PROBLEMS, REPEATS, TOKENS, ROWS = 64, 3, 64, 64
BEAM = Beam(beams=4, width=4, depth=6)


async def decode(policy: Embedded, problems: Sequence[Segment], tokens: int, seed: int) -> float:
    """Processor seconds of drawing `tokens` tokens after each prompt, ends ignored."""
    began = time.process_time()
    drawn = [policy.engine.sample(p.tokens, (seed + i,), temperature=0.8, limit=tokens) for i, p in enumerate(problems)]
    await asyncio.gather(*drawn)
    return time.process_time() - began


def generate(policy: Generate, problems: Sequence[Segment], tokens: int) -> float:
    """The same by `generate`."""
    began = time.process_time()
    policy.generate([p.tokens for p in problems], tokens, 0.8)
    return time.process_time() - began


async def compare_decoding(model: str, rows: int, tokens: int, repeats: int) -> list[float]:
    """How many times faster than `generate` the engine decodes, per repeat; each repeat has new prompts."""
    ratios = []
    async with Embedded(model, memory="512MB", threads=1) as ours, Generate(model) as theirs:
        for repeat in range(repeats + 1):  # the first warms both
            some = prompts(ours, rows * repeat, rows)
            torch.manual_seed(repeat)
            took = generate(theirs, some, tokens)
            ratios.append(took / await decode(ours, some, tokens, 1000 * repeat))
    return ratios[1:]


def _shown(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same, by a name in torch's profiler."""

    def recorded(*arguments: Any) -> Any:
        with record_function(name):
            return function(*arguments)

    return recorded


def torch_share(rows: int, steps: int) -> tuple[float, str]:
    """Of the time of engine steps, what torch's operators and the kernels take by its profiler; the largest of them."""
    model = language_model(Path(MODEL), "float32", "cpu")
    if isinstance(model.backbone, Native):
        mine, theirs = model.backbone._kernels, model.head._kernels  # type: ignore[attr-defined]
        mine.forward, theirs.multiply = _shown(mine.forward, "forward"), _shown(theirs.multiply, "head")
    kv = KV(model.layers, model.heads, model.width, 40_000, model.dtype)
    worker = Worker(model, kv, lambda: Scheduler(kv, rows, 2048))
    loop = asyncio.new_event_loop()
    calls = []
    for i in range(rows):
        ids = tuple((7 * i + j) % 400 + 4 for j in range(48))
        calls.append(Call(ids, loop.create_future(), (i,), 0.8, limit=steps + 9, draws=[None]))
    worker.enter(calls)
    with torch.inference_mode():
        for _ in range(8):
            worker.step()
        with (
            profile(activities=[ProfilerActivity.CPU]) as seen,
            patch(f"{sample.__module__}.draw", _shown(draw, "draw")),
        ):
            began = time.perf_counter()
            for _ in range(steps):
                worker.step()
            total = 1e6 * (time.perf_counter() - began)
    loop.close()
    rows_by_time = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)
    listed = (f"{e.key.removeprefix('aten::')} {e.self_cpu_time_total / total:.0%}" for e in rows_by_time[:6])
    return sum(e.self_cpu_time_total for e in rows_by_time) / total, ", ".join(listed)


def figures(shape: str = "", device: str = "", dtype: str = "bfloat16") -> Iterator[Figure]:
    """`engine.torch_share`, `engine.decode_vs_generate_64`, `engine.beam_vs_generate`, and what the parts bring.

    `engine.decode_vs_vllm_64` where vLLM is installed. With a GPU also random weights in the shapes of real models, in
    bfloat16; with `shape` ("0.5B" or "7B") these alone, on `device` (the GPU if there is one) in `dtype`.
    """
    if shape:
        yield from shapes.figures(shape, device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype)
        return
    with one_thread():
        shares = [torch_share(ROWS, 40) for _ in range(5 * REPEATS // 3)]
        note = f"{ROWS} rows, {MODEL}, wall time of steps under torch.profiler: {shares[-1][1]}"
        yield measured("engine.torch_share", "share", note, [share for share, _ in shares])
        what = f"drawn after each of {ROWS} held-out prompts, prompts computed by both; processor time, one thread"
        ratios = asyncio.run(compare_decoding(MODEL, ROWS, TOKENS, REPEATS))
        yield measured(f"engine.decode_vs_generate_{ROWS}", "ratio", f"{TOKENS} tokens {what}", ratios)
        yield from asyncio.run(parts.compare_searches(BEAM, PROBLEMS, REPEATS))
        yield asyncio.run(parts.compare_lists(PROBLEMS // 2, REPEATS))
        if find_spec("vllm") is not None:
            yield beside_vllm.decoding(ROWS, TOKENS, REPEATS)
    if torch.cuda.is_available():
        for name in shapes.SHAPES:
            yield from shapes.figures(name, "cuda", "bfloat16")
    else:
        sys.stderr.write("engine on a GPU: not measured, for there is none here\n")
