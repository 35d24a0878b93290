"""What each part of the engine brings to a beam search: the search without it, over the engine with all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import torch

from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.generate import Generate
from experiments.benchmarks.workload import MODEL, Measured, prompts, search
from policies.embedded import Embedded
from policies.engine import worker
from policies.engine.sampler import Numbers, Sampled
from search.algorithms.beam import Beam
from search.algorithms.token_beam import TokenBeam
from search.batching import Batcher
from search.ports import Policy
from search.types import Cost, Reply, Request

DRAFT = "models/draft"
PARTS = {
    "forgetful": "no prefix kept",
    "in_waves": "calls wait for each other, and all for the slowest draw",
    "row_by_row": "each row drawn by itself, by torch.multinomial with a generator of its seed",
    "speculating": "a draft model guesses ahead; where many rows run it has to get out of the way",
}


@dataclass
class Waves:
    """A policy whose calls wait for each other: what is asked at once is answered at once, by the slowest draw."""

    inner: Policy

    def __post_init__(self) -> None:
        self._batch: Batcher[Request, Reply] = Batcher(self.inner.sample)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`."""
        return await self._batch(requests)


@dataclass
class Reads:
    """A policy that lists tokens by reading: each prefix as a prompt, its logits sorted by the caller."""

    inner: Embedded

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """As `inner`, of requests that list."""
        return await asyncio.gather(*map(self._one, requests))

    async def _one(self, request: Request) -> Reply:
        ids, loaded = request.prefix.tokens, self.inner._ready
        values = (await self.inner.engine.read(ids, len(ids) - 1, owner=hash(request.prefix.prompt.tokens))).values[-1]
        best = values[: self.inner.vocabulary_size()].log_softmax(-1).sort(descending=True, stable=True)
        told = best.indices[: request.top].tolist(), best.values[: request.top].tolist()
        return Reply(loaded.listed(ids, *told), Cost(1))


def by_row(logits: torch.Tensor, numbers: Numbers) -> Sampled:
    """As engines draw that keep a generator per sequence (temperature alone)."""
    logits = logits.float() / torch.from_numpy(numbers.temperature.astype(np.float32))[:, None]
    share = logits.softmax(-1)
    tokens = []
    for row, seed, position in zip(share, numbers.seeds.tolist(), numbers.positions.tolist(), strict=True):
        source = torch.Generator().manual_seed((seed * 1000003 + position) % (1 << 63))
        tokens.append(int(torch.multinomial(row, 1, generator=source)))
    drawn = torch.tensor(tokens)
    return Sampled(drawn.numpy(), share.gather(-1, drawn[:, None])[:, 0].log().double().numpy())


async def fresh(method: Beam, problems: int, offset: int, part: str = "") -> Measured:
    """The search over an engine that knows nothing yet, without a part of `PARTS` or with all."""
    guess = "draft" if part == "speculating" else None
    async with Embedded(MODEL, memory="1GB", threads=1, speculate=guess, draft=DRAFT) as policy:
        asked: Policy = Waves(policy) if part == "in_waves" else policy
        with patch.object(worker, "sample", by_row) if part == "row_by_row" else nullcontext():
            return await search(method, asked, prompts(policy, offset, problems), forget=part == "forgetful")


async def compare_searches(method: Beam, problems: int, repeats: int) -> list[Figure]:
    """A beam search over the engine against `generate`, and the engine without some of its parts against itself."""
    ratios: dict[str, list[float]] = {name: [] for name in ("generate", *PARTS)}
    drawn = {"engine": 0, "generate": 0}
    async with Embedded(MODEL, memory="16MB", threads=1) as reader, Generate(MODEL) as other:
        await search(method, other, prompts(reader, 900, 4))
        await fresh(method, 4, 900)
        for repeat in range(repeats):
            offset = problems * repeat
            ours = await fresh(method, problems, offset)
            torch.manual_seed(repeat)
            theirs = await search(method, other, prompts(reader, offset, problems))
            drawn["engine"] += ours.tokens
            drawn["generate"] += theirs.tokens
            ratios["generate"].append(ours.seconds / theirs.seconds)
            for part in PARTS:
                ratios[part].append((await fresh(method, problems, offset, part)).seconds / ours.seconds)
    what = f"processor time of beam search {method.beams} x {method.width}, {problems} problems at once"
    note = f"{what}: engine over batched generate; tokens {drawn['engine']:,} and {drawn['generate']:,}"
    found = [measured("engine.beam_vs_generate", "ratio", note, ratios["generate"])]
    for part, without in PARTS.items():
        found.append(measured(f"engine.beam_{part}", "ratio", f"{what}: {without}, over the engine", ratios[part]))
    return found


async def compare_lists(problems: int, repeats: int, length: int = 24) -> Figure:
    """A beam search by tokens whose lists are read like prompts, over the same with lists beside the draws."""
    method, ratios, tokens = TokenBeam(beams=5, length=length), [], 0
    async with Embedded(MODEL, memory="256MB", threads=1) as policy:
        for repeat in range(repeats + 1):  # the first warms both
            some = prompts(policy, problems * repeat, problems)
            rows = await search(method, policy, some)
            for prompt in some:
                policy.engine.release(prompt.tokens, 0)
            reads = await search(method, Reads(policy), prompts(policy, 1000 + problems * repeat, problems))
            ratios.append(reads.seconds / reads.tokens / (rows.seconds / rows.tokens))
            tokens += rows.tokens
    note = f"processor time per listed token of a beam of 5 tokens, {problems} problems at once: each list read like a"
    note += " prompt, over lists that run as rows"
    return measured("engine.lists_read", "ratio", note, ratios[1:])
