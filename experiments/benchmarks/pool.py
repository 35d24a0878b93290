"""What a pool costs and brings: one process against none, two against one, caches kept by routing."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from experiments.benchmarks.figure import Figure, measured
from experiments.benchmarks.stated import MIDDLE
from experiments.item import Item, cut
from experiments.tasks.reference import Arithmetic
from policies.embedded import Embedded
from policies.pool.hosting import Hosting
from policies.pool.local import Local
from policies.pool.ray import Ray
from policies.tiny import checkpoint
from policies.toy import Toy
from search.algorithms.beam import Beam
from search.ports import Policy, Renders, ability
from search.run import run
from search.session import Session
from search.steps import Delimiter
from search.types import Cost, Prefix, Reply, Request, Sampling, Verdict

ROWS, TOKENS, REPEATS = 32, 96, 5
PROBLEMS, REPLICAS = 16, 4
STEP = Sampling(temperature=0.8, max_tokens=64, until=Delimiter())
MODEL = partial(Embedded, "models/policy", memory="256MB", threads=1)


@dataclass(frozen=True)
class Busy(Toy):
    """A policy that computes in Python, without a pause, for every request."""

    rounds: int = 150_000

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        """As the toy, after some arithmetic."""
        for _ in requests:
            sum(i * i for i in range(self.rounds))
        return await super().sample(requests)


@dataclass(frozen=True)
class Digests:
    """A verifier that knows nothing and says always the same of the same."""

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """A number in [0, 1) of the digest."""
        return [Verdict(prefix.digest[0] / 256) for prefix in prefixes]


async def seconds(work: Callable[[], Awaitable[object]]) -> float:
    """Of wall time that `work` takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def together(policy: Policy, requests: Sequence[Request]) -> None:
    """Every request by itself, all at once, as many searches make them."""
    await asyncio.gather(*(policy.sample([request]) for request in requests))


def processor() -> float:
    """Seconds of processor time of this process and of its children, living or not."""
    ended = os.times()
    total = ended.user + ended.system
    for thread in Path("/proc/self/task").iterdir():
        for child in (thread / "children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def overhead(hosting: Hosting, model: Callable[[], Embedded] = MODEL) -> tuple[list[float], list[float]]:
    """Of 32 draws of up to 96 tokens: time through a pool of one replica over that in this process; processor time.

    Which of the two comes first changes from pair to pair.
    """
    sampling = Sampling(max_tokens=TOKENS)
    async with model() as here, hosting.policy(model) as pooled:
        prompts = [Prefix(here.prompt(Arithmetic().messages(item))) for item in cut(Arithmetic().items(), ROWS)]

        pairs = []
        for seed in range(2 * REPEATS + 1):
            requests = [Request(prompt, sampling, (seed,)) for prompt in prompts]
            took = {}
            for policy in (here, pooled) if seed % 2 else (pooled, here):
                before = processor()
                wall = await seconds(partial(together, policy, requests))
                took[policy is pooled] = wall, processor() - before
            pairs.append([took[True][i] / took[False][i] for i in (0, 1)])
    return [pair[0] for pair in pairs[1:]], [pair[1] for pair in pairs[1:]]  # the first pair warms both


async def per_request() -> list[float]:
    """Microseconds of this process per request, in the pool alone: replicas in this loop that answer at once."""
    found = []
    prefixes = [Prefix(Toy().write(f"q{i}")) for i in range(500)]
    async with Local(workers="inline", replicas=2).policy(Toy) as pooled:
        for seed in range(4 * REPEATS):
            requests = [Request(prefix, Sampling(), (seed,)) for prefix in prefixes]
            times = {}
            for policy in (Toy(), pooled) if seed % 2 else (pooled, Toy()):
                began = time.process_time()
                await together(policy, requests)
                times[policy is pooled] = time.process_time() - began
            found.append(1e6 * (times[True] - times[False]) / len(prefixes))
    return found


async def speedup() -> list[float]:
    """Time of a policy that computes in Python with one replica, over that with two; pairs in turn."""
    requests = [Request(Prefix(Toy().write(f"q{i}")), Sampling(), (1,)) for i in range(48)]
    async with Local(replicas=1).policy(Busy) as one, Local(replicas=2, spill=1).policy(Busy) as two:
        work = {front: partial(together, front, requests) for front in (one, two)}
        await work[one]()
        await work[two]()
        found = []
        for repeat in range(2 * REPEATS):
            took = {front: await seconds(work[front]) for front in ((one, two) if repeat % 2 else (two, one))}
            found.append(took[one] / took[two])
        return found


async def hits(replicas: int, seed: int, scattered: bool = False) -> float:
    """Share of prompt tokens found in a prefix cache: beam search over 16 problems at once, a small cache each."""
    hosting = Local(workers="inline", replicas=replicas)
    async with hosting.policy(MODEL) as policy:
        if scattered:
            rng = random.Random(seed)
            policy._port = replace(policy._port, key=lambda _: rng.randbytes(8))
        spent = await asyncio.gather(*(_one(policy, item, seed) for item in cut(Arithmetic().items(), PROBLEMS)))
    total = sum(spent, Cost())
    return total.reused / (total.reused + total.prefilled)


async def _one(policy: Policy, item: Item, seed: int) -> Cost:
    prompt = ability(policy, Renders).prompt(Arithmetic().messages(item))
    session = Session(prompt, policy, Digests(), step=STEP, whole=STEP.to_the_end(256), seed=seed)
    return (await run(Beam(4, 4, 12), session)).spent


async def affinity() -> list[tuple[float, float, float]]:
    """Hit rates with one replica, four, and four with random routing, by seed."""
    return [(await hits(1, s), await hits(REPLICAS, s), await hits(REPLICAS, s, scattered=True)) for s in range(3)]


def figures() -> Iterator[Figure]:
    """`pool.overhead`, `pool.speedup_2`, `pool.affinity_hit_ratio`, and what stands beside them."""
    note = f"{ROWS} draws of up to {TOKENS} tokens: a pool of one {{}} over none; {{}}"
    ones: dict[str, Hosting] = {"process": Local(replicas=1)}
    if find_spec("ray") is not None:
        ones["Ray actor"] = Ray(replicas=1, address="local", init={"num_cpus": 2, "object_store_memory": 80 << 20})
    with tempfile.TemporaryDirectory() as folder:
        larger = partial(Embedded, str(checkpoint(Path(folder), **MIDDLE)), memory="256MB", threads=1)
        for name, hosting in ones.items():
            figure = "pool.ray_overhead" if name == "Ray actor" else "pool.overhead"
            wall, processors = asyncio.run(overhead(hosting))
            yield measured(figure, "ratio", note.format(name, "reference policy"), wall)
            if name == "process":  # Ray's actors are no children of this process
                told = "processor time of the same, the replica included"
                yield measured(f"{figure}.processor", "ratio", told, processors)
            wall, _ = asyncio.run(overhead(hosting, larger))
            told = note.format(name, "random weights, 8 layers of width 512")
            yield measured(f"{figure}.large", "ratio", told, wall)
    yield measured(
        "pool.us_per_request",
        "us",
        "processor time of Python in the pool, instant replicas",
        asyncio.run(per_request()),
    )
    note = "a policy that computes in Python: time with one process over that with two"
    yield measured("pool.speedup_2", "ratio", note, asyncio.run(speedup()))
    rows = asyncio.run(affinity())
    one, four, scattered = ([row[i] for row in rows] for i in range(3))
    rate = f"{min(one):.3f} to {max(one):.3f}"
    note = f"prefix-cache hit rate of {REPLICAS} replicas over that of one ({rate}), beam search"
    yield measured("pool.affinity_hit_ratio", "ratio", note, [f / o for f, o in zip(four, one, strict=True)])
    note = "the same with random routing"
    yield measured("pool.random_hit_ratio", "ratio", note, [s / o for s, o in zip(scattered, one, strict=True)])
