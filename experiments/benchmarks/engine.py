"""What the engine brings: a beam search and plain decoding against `transformers` `generate`; time inside torch.

Both sides run in this process, in turn, with one thread. What is compared is processor time of the whole process, which
is the wall time of an idle core: other work on the machine hardly touches it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.generate import Generate
from experiments.item import cut
from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from policies.engine.calls import Call
from policies.engine.kv import KV
from policies.engine.load import language_model
from policies.engine.schedule import Scheduler
from policies.engine.worker import Worker
from policies.tiny import checkpoint
from search.algorithms.beam import Beam
from search.batching import Batcher
from search.ports import Policy
from search.session import Session
from search.steps import Delimiter
from search.types import Prefix, Reply, Request, Sampling, Segment, Verdict

MODEL = "models/policy"
STEP = Sampling(temperature=0.8, max_tokens=48, until=Delimiter())
PROBLEMS, REPEATS, TOKENS, ROWS = 64, 3, 64, 64
BEAM = Beam(beams=4, width=4, depth=6)


@dataclass(frozen=True)
class Hashed:
    """A verifier that costs next to nothing, so that the policy's time is what is measured."""

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """A number that looks random and depends on the tokens alone."""
        return [Verdict(blake2b(repr(p.tokens).encode(), digest_size=2).digest()[0] / 256) for p in prefixes]


@dataclass
class Counted:
    """A policy, the tokens that it drew counted; `forget` makes an engine forget what a call computed."""

    inner: Any
    forget: bool = False
    generated: int = field(default=0, init=False)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`."""
        replies = await self.inner.sample(requests)
        for request, reply in zip(requests, replies, strict=True):
            for segment in reply.segments:
                self.generated += len(segment.tokens)
                if self.forget:
                    self.inner.engine.release(request.prefix.tokens + segment.tokens, 0)
        return replies


@dataclass
class Waves:
    """A policy whose calls wait for each other: what is asked at once is answered at once, by the slowest draw."""

    inner: Policy

    def __post_init__(self) -> None:
        self._batch: Batcher[Request, Reply] = Batcher(self.inner.sample)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`."""
        return await self._batch(requests)


def prompts(policy: Embedded, offset: int, count: int) -> list[Segment]:
    """Held-out problems, half arithmetic, half countdown."""
    half = count // 2
    tasks = ((Arithmetic(2000), half), (Countdown(count=2000), count - half))
    return [policy.prompt(task.messages(i)) for task, n in tasks for i in cut(task.items(), n, offset)]


async def search(policy: Any, problems: Sequence[Segment], forget: bool = False) -> tuple[float, int]:
    """The beam search over all problems at once: processor seconds, and tokens drawn."""
    counted = Counted(policy, forget)

    async def one(prompt: Segment) -> None:
        whole = STEP.to_the_end(96)
        await BEAM(Session(prompt, counted, Hashed(), step=STEP, whole=whole))

    began = time.process_time()
    await asyncio.gather(*map(one, problems))
    return time.process_time() - began, counted.generated


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operators on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


async def fresh(problems: int, offset: int, variant: str) -> tuple[float, int]:
    """`search` over an engine that knows nothing yet."""
    async with Embedded(MODEL, memory="1GB", threads=1) as policy:
        asked: Any = Waves(policy) if variant == "waves" else policy
        return await search(asked, prompts(policy, offset, problems), forget=variant == "forgetful")


async def compare_searches() -> list[Figure]:
    """Beam search over the engine against `generate`, and the engine without some of its parts against itself."""
    ratios: dict[str, list[float]] = {"generate": [], "forgetful": [], "waves": []}
    drawn = {"engine": 0, "generate": 0}
    async with Embedded(MODEL, memory="16MB", threads=1) as reader, Generate(MODEL) as other:
        await search(other, prompts(reader, 900, 4))
        await fresh(4, 900, "")
        for repeat in range(REPEATS):
            offset = PROBLEMS * repeat
            seconds, tokens = await fresh(PROBLEMS, offset, "")
            drawn["engine"] += tokens
            torch.manual_seed(repeat)
            took, tokens = await search(other, prompts(reader, offset, PROBLEMS))
            drawn["generate"] += tokens
            ratios["generate"].append(seconds / took)
            for variant in ("forgetful", "waves"):
                ratios[variant].append((await fresh(PROBLEMS, offset, variant))[0] / seconds)
    what = f"processor time of beam search {BEAM.beams} x {BEAM.width}, {PROBLEMS} problems at once"
    note = f"{what}: engine over batched generate; tokens {drawn['engine']:,} and {drawn['generate']:,}"
    return [
        measured("engine.beam_vs_generate", "ratio", note, ratios["generate"]),
        measured("engine.beam_forgetful", "ratio", f"{what}: no prefix kept, over all", ratios["forgetful"]),
        measured("engine.beam_in_waves", "ratio", f"{what}: calls wait for each other, over all", ratios["waves"]),
    ]


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


def compare_vllm(rows: int, tokens: int) -> list[float]:
    """How many times faster than vLLM the engine decodes, by wall time, since vLLM may work in another process."""
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found, unused-ignore]

    llm = LLM(model=MODEL, dtype="float32", enforce_eager=True, max_model_len=512)
    asked = SamplingParams(temperature=0.8, max_tokens=tokens, ignore_eos=True)

    async def repeats() -> list[float]:
        ratios = []
        async with Embedded(MODEL, memory="512MB", threads=1) as ours:
            for repeat in range(REPEATS + 1):
                some = prompts(ours, rows * repeat, rows)
                began = time.perf_counter()
                llm.generate([{"prompt_token_ids": list(p.tokens)} for p in some], asked, use_tqdm=False)
                middle = time.perf_counter()
                await decode(ours, some, tokens, 1000 * repeat)
                ratios.append((middle - began) / (time.perf_counter() - middle))
        return ratios[1:]

    return asyncio.run(repeats())


def torch_share(rows: int, steps: int) -> tuple[float, str]:
    """Of the time of engine steps, what torch's operators take by its own profiler; and the largest of them."""
    model = language_model(Path(MODEL), "float32", "cpu")
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
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            began = time.perf_counter()
            for _ in range(steps):
                worker.step()
            total = 1e6 * (time.perf_counter() - began)
    loop.close()
    rows_by_time = sorted(seen.key_averages(), key=lambda e: -e.self_cpu_time_total)
    listed = (f"{e.key.removeprefix('aten::')} {e.self_cpu_time_total / total:.0%}" for e in rows_by_time[:6])
    return sum(e.self_cpu_time_total for e in rows_by_time) / total, ", ".join(listed)


def figures() -> Iterator[Figure]:
    """`engine.torch_share`, `engine.decode_vs_generate_64`, `engine.beam_vs_generate`, and what the parts bring.

    `engine.decode_vs_vllm_64` where vLLM is installed; random weights in the shape of a 0.5B model with
    TREEWISE_FULL=1.
    """
    with one_thread():
        shares = [torch_share(ROWS, 40) for _ in range(5 * REPEATS // 3)]
        note = f"{ROWS} rows, {MODEL}, wall time of steps under torch.profiler: {shares[-1][1]}"
        yield measured("engine.torch_share", "share", note, [share for share, _ in shares])
        what = f"drawn after each of {ROWS} held-out prompts, prompts computed by both; processor time, one thread"
        ratios = asyncio.run(compare_decoding(MODEL, ROWS, TOKENS, REPEATS))
        yield measured(f"engine.decode_vs_generate_{ROWS}", "ratio", f"{TOKENS} tokens {what}", ratios)
        yield from asyncio.run(compare_searches())
        if find_spec("vllm") is not None:
            note = f"{TOKENS} tokens {what.replace('processor', 'wall')}"
            yield measured(f"engine.decode_vs_vllm_{ROWS}", "ratio", note, compare_vllm(ROWS, TOKENS))
        if os.environ.get("TREEWISE_FULL") == "1":
            with tempfile.TemporaryDirectory() as folder:
                checkpoint(
                    Path(folder), hidden=896, layers=24, heads=14, shared=2, inner=4864, scale=0.02, tied=True,
                    vocabulary=151_936,
                )  # fmt: skip
                note = "8 tokens after each of 8 prompts, random weights in the shape of a 0.5B model; processor time"
                half = asyncio.run(compare_decoding(folder, 8, 8, 2))
                yield measured("engine.decode_vs_generate_8.half_billion", "ratio", note, half)
