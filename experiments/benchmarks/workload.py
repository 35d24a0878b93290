"""What the engine's benchmarks run: problems, steps, a verifier that costs nothing, and searches over many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch

from experiments.item import cut
from experiments.tasks.reference import Arithmetic, Countdown
from policies.embedded import Embedded
from search.ports import Policy
from search.run import Search
from search.session import Session
from search.steps import Delimiter
from search.types import Prefix, Reply, Request, Sampling, Segment, Verdict

MODEL = "models/policy"
STEP = Sampling(temperature=0.8, max_tokens=48, until=Delimiter())


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


def prompts(policy: Embedded, offset: int, count: int) -> list[Segment]:
    """Held-out problems, half arithmetic, half countdown."""
    half = count // 2
    tasks = ((Arithmetic(2000), half), (Countdown(count=2000), count - half))
    return [policy.prompt(task.messages(i)) for task, n in tasks if n for i in cut(task.items(), n, offset)]


async def search(method: Search, policy: Policy, problems: Sequence[Segment], forget: bool = False) -> Measured:
    """The search over all problems at once: processor seconds, and tokens drawn."""
    counted = Counted(policy, forget)

    async def one(prompt: Segment) -> None:
        await method(Session(prompt, counted, Hashed(), step=STEP, whole=STEP.to_the_end(96)))

    began = time.process_time()
    await asyncio.gather(*map(one, problems))
    return Measured(time.process_time() - began, counted.generated)


@dataclass(frozen=True)
class Measured:
    """Processor seconds of the whole process, and tokens drawn."""

    seconds: float
    tokens: int


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch's operators on one thread inside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
