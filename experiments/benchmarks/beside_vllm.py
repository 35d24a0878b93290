"""Decoding beside vLLM on the same checkpoint, in this process, where vLLM is installed."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.workload import MODEL, prompts
from policies.embedded import Embedded
from search.types import Segment

# in one process, so that its time is measured as ours is; quiet; memory for keys and values as we have it
SETTINGS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}
MEMORY = 256 << 20
MODES = {"compiled": False, "eager": True}  # by `enforce_eager`


@dataclass(frozen=True)
class Took:
    """Processor and wall seconds."""

    processor: float
    wall: float


@contextmanager
def clock() -> Iterator[list[Took]]:
    """What happens inside takes the one entry of the list."""
    found: list[Took] = []
    processor, wall = time.process_time(), time.perf_counter()
    yield found
    found.append(Took(time.process_time() - processor, time.perf_counter() - wall))


def theirs(llm: Any, asked: Any, problems: Sequence[Segment], tokens: int) -> Took:
    """vLLM draws `tokens` tokens after each prompt; without seeds and text, which would slow it down.

    Raises:
        RuntimeError: it drew another number of tokens.
    """
    with clock() as took:
        replies = llm.generate([{"prompt_token_ids": list(p.tokens)} for p in problems], asked, use_tqdm=False)
    if {len(reply.outputs[0].token_ids) for reply in replies} != {tokens}:
        raise RuntimeError("vLLM drew another number of tokens than asked")
    return took[0]


async def ours(policy: Embedded, problems: Sequence[Segment], tokens: int, seed: int) -> Took:
    """The engine does, every draw by its own seed."""
    with clock() as took:
        calls = [
            policy.engine.sample(p.tokens, (seed + i,), temperature=0.8, limit=tokens) for i, p in enumerate(problems)
        ]
        await asyncio.gather(*calls)
    return took[0]


def compare(mode: str, rows: int, tokens: int, repeats: int) -> list[tuple[Took, Took]]:
    """Repeats of vLLM and the engine in turn, over new prompts each, after one that warms both."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found, unused-ignore]

    llm = LLM(
        model=MODEL,
        dtype="float32",
        enforce_eager=MODES[mode],
        max_model_len=512,
        max_num_seqs=rows,
        kv_cache_memory_bytes=MEMORY,
        seed=0,
    )
    asked = SamplingParams(temperature=0.8, max_tokens=tokens, ignore_eos=True, detokenize=False)
    torch.set_num_threads(1)  # vLLM sets its own number

    async def run() -> list[tuple[Took, Took]]:
        found = []
        async with Embedded(MODEL, memory=MEMORY, threads=1) as policy:
            for repeat in range(repeats + 1):
                some = prompts(policy, rows * repeat, rows)
                found.append((theirs(llm, asked, some, tokens), await ours(policy, some, tokens, 1000 * repeat)))
        return found[1:]

    try:
        return asyncio.run(run())
    finally:
        llm.llm_engine.engine_core.shutdown()


def decoding(rows: int, tokens: int, repeats: int) -> Figure:
    """How many times faster than vLLM the engine decodes: against the faster of vLLM's modes."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    found = {}
    for mode in MODES:
        found[mode] = compare(mode, rows, tokens, repeats)
        gc.collect()  # its memory, before the next
    ratios = {mode: [a.processor / b.processor for a, b in pairs] for mode, pairs in found.items()}
    walls = {mode: median(a.wall / b.wall for a, b in pairs) for mode, pairs in found.items()}
    best = min(MODES, key=lambda mode: median(ratios[mode]))
    speed = {mode: rows * tokens / median(a.processor for a, _ in pairs) for mode, pairs in found.items()}
    own = rows * tokens / median(b.processor for pairs in found.values() for _, b in pairs)
    note = (
        f"{tokens} tokens after each of {rows} held-out prompts, processor time of vLLM ({best}) over the engine's, one"
    )
    note += f" process; tokens per second: engine {own:,.0f}, " + ", ".join(f"{m} {s:,.0f}" for m, s in speed.items())
    note += "; by wall time " + ", ".join(f"{mode} {wall:.2f}" for mode, wall in walls.items())
    return measured(f"engine.decode_vs_vllm_{rows}", "ratio", note, ratios[best])
