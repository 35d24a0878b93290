"""Decoding with random weights in the shapes of real models: against `generate`, against the memory's bandwidth, and
with guesses of a stated rate of success.

A step of decoding reads every weight, and the keys and values of all rows, once: bytes over bandwidth is the least time
it can take (the roofline at these batches). Weights are made on the device; nothing is downloaded or written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from experiments.benchmarks.figure import Figure, measured
from policies.engine import load
from policies.engine.attention import NAME
from policies.engine.engine import Engine
from policies.engine.load import Model
from policies.engine.speculate import Speculation
from search.errors import ConfigError

# of Qwen2.5: hidden, layers, heads, key heads, inner, vocabulary, tied
SHAPES = {
    "0.5B": (896, 24, 14, 2, 4864, 151_936, True),
    "7B": (3584, 28, 28, 4, 18_944, 152_064, False),
}
BATCHES, GUESSED = (1, 8, 64), (1, 8, 32)  # rows
PROMPT, TOKENS, REPEATS = 64, 32, 3
MEMORY = 1 << 30
COPIED = 1 << 28  # bytes, of the copy that measures the bandwidth


@dataclass(frozen=True)
class Built:
    """A model in this process.

    Attributes:
        full: as `transformers` runs it.
        model: as the engine does; they share the weights.
        weights: bytes that a step of decoding reads.
    """

    full: Any
    model: Model
    weights: int


def build(shape: str, device: str, dtype: str) -> Built:
    """Random weights, small enough that nothing overflows.

    Raises:
        ConfigError: there is no such shape, or no such type of numbers.
    """
    if shape not in SHAPES:
        raise ConfigError("shape", shape, f"give one of {', '.join(SHAPES)}")
    if dtype not in load.DTYPES:
        raise ConfigError("dtype", dtype, f"give one of {', '.join(load.DTYPES)}")
    hidden, layers, heads, shared, inner, vocabulary, tied = SHAPES[shape]
    config = Qwen2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        intermediate_size=inner,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        initializer_range=0.02,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with load.quiet(), torch.device(device):
        full = AutoModelForCausalLM.from_config(config, dtype=load.DTYPES[dtype], attn_implementation=NAME)
    full = full.eval()
    model = load.causal(full, dtype, device)
    size = sum(p.numel() * p.element_size() for p in full.parameters())
    embedding = full.get_input_embeddings().weight
    return Built(full, model, size - (0 if tied else embedding.numel() * embedding.element_size()))


def wait(device: str) -> None:
    """Until what was started on the device is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def bandwidth(device: str) -> float:
    """Bytes per second that a copy within the device's memory reads and writes."""
    source = torch.ones(COPIED // 4, device=device)
    target, seconds = torch.empty_like(source), []
    for _ in range(7):
        wait(device)
        began = time.perf_counter()
        target.copy_(source)
        wait(device)
        seconds.append(time.perf_counter() - began)
    return 2 * COPIED / median(seconds)


def prompt(row: int, vocabulary: int) -> tuple[int, ...]:
    """Ids that look random."""
    return tuple((7919 * row + 104_729 * i) % (vocabulary - 1) + 1 for i in range(PROMPT))


async def draw(built: Built, rows: int, speculation: Speculation | None = None) -> tuple[float, list[tuple[int, ...]]]:
    """Seconds of drawing `TOKENS` tokens after each prompt, once the prompts are computed; and the tokens."""
    engine = Engine(built.model, MEMORY, context=PROMPT + TOKENS, speculation=speculation)
    engine.start()
    try:
        prompts = [prompt(row, built.model.vocabulary) for row in range(rows)]
        await asyncio.gather(*(engine.sample(ids, (i,), limit=2) for i, ids in enumerate(prompts)))
        wait(built.model.device)
        began = time.perf_counter()
        drawn = await asyncio.gather(*(engine.sample(ids, (i,), limit=TOKENS) for i, ids in enumerate(prompts)))
        wait(built.model.device)
        return time.perf_counter() - began, [d.draws[0].tokens for d in drawn]
    finally:
        await asyncio.to_thread(engine.close)


def generate(built: Built, rows: int) -> float:
    """Seconds of `generate` for the same, its time for the prompts taken off."""
    ids = torch.tensor([prompt(row, built.model.vocabulary) for row in range(rows)], device=built.model.device)
    built.full.set_attn_implementation("sdpa")
    seconds = []
    try:
        for count in (1, 1, TOKENS):  # the first warms
            wait(built.model.device)
            began = time.perf_counter()
            with torch.inference_mode():
                built.full.generate(
                    ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=count,
                    eos_token_id=None,
                )  # fmt: skip
            wait(built.model.device)
            seconds.append(time.perf_counter() - began)
    finally:
        built.full.set_attn_implementation(NAME)
    return seconds[-1] - seconds[-2]


def figures(shape: str, device: str, dtype: str) -> Iterator[Figure]:
    """By batch: milliseconds of a step, the share of the bandwidth it uses, and the ratios; all by wall time.

    Raises:
        ConfigError: as `build`.
    """
    from experiments.benchmarks.stated import RIGHT, Stated

    built = build(shape, device, dtype)
    token = 2 * built.model.layers * built.model.heads * built.model.width * built.model.dtype.itemsize
    speed = bandwidth(device)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    what = f"random weights in the shape of {shape}, {dtype}, {name}, {PROMPT} + {TOKENS} tokens"
    known: dict[int, list[tuple[int, ...]]] = {}
    times: dict[int, list[float]] = {}
    for rows in sorted({*BATCHES, *GUESSED}):
        runs = [asyncio.run(draw(built, rows)) for _ in range(REPEATS + 1)][1:]
        times[rows], known[rows] = [seconds / (TOKENS - 1) for seconds, _ in runs], runs[0][1]
    for rows in BATCHES:
        steps = times[rows]
        bound = (built.weights + rows * (PROMPT + TOKENS / 2) * token) / speed
        yield measured(
            f"engine.step.{shape}.{rows}", "ms", f"one token of each of {rows} rows; {what}", [1e3 * s for s in steps]
        )
        note = f"least time by bytes over {speed / 1e9:,.0f} GB/s, over a step's; {rows} rows; {what}"
        yield measured(f"engine.roofline.{shape}.{rows}", "share", note, [bound / s for s in steps])
        ratios = [generate(built, rows) / (TOKENS - 1) / s for s in steps]
        yield measured(f"engine.decode_vs_generate_{rows}.{shape}", "ratio", f"{rows} rows; {what}", ratios)
    for rows in GUESSED:
        gains = []
        for plain in times[rows]:
            seconds, tokens = asyncio.run(draw(built, rows, Speculation([Stated(known[rows])])))
            # in other shapes the last bits differ, in 16 bits also a token now and then
            same = sum(a == b for a, b in zip(tokens, known[rows], strict=True))
            gains.append(plain * (TOKENS - 1) / seconds)
        note = f"without over with guesses right {RIGHT:.0%} of the time; {same} of {rows} rows the same; {what}"
        yield measured(f"engine.speculation.{shape}.{rows}", "ratio", note, gains)
