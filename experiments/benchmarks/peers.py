"""Beside other packages: its_hub on one vLLM server, treequest on one script; each in an environment of its own."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx

from experiments.benchmarks.figure import Figure, measured
from experiments.item import Item, cut
from experiments.peers.judge import Judge
from experiments.peers.server import Server, serving, vllm_python
from experiments.tasks.reference import Arithmetic
from policies.http import Endpoint
from search.algorithms.beam import Beam
from search.algorithms.flat import Flat
from search.algorithms.mcts import MCTS
from search.algorithms.particles import ParticleFilter
from search.errors import ConfigError
from search.ports import Policy
from search.rules import uct, uniform
from search.run import Search, run
from search.select import Best
from search.session import Session
from search.steps import Delimiter, Tokens
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Segment, Verdict

PEERS = ("its_hub[lm]==1.2.0", "treequest==0.3.3")
DRIVERS = Path(__file__).parents[1] / "peers"
PROBLEMS, WARM, REPEATS, TOGETHER = 64, 8, 3, 64
SAMPLES, BEAMS, DEPTH, TEMPERATURE = 16, 4, 12, 0.8
STEP = Sampling(temperature=TEMPERATURE, max_tokens=64, until=Delimiter())
WHOLE = STEP.to_the_end(256)
NODES, WIDTH = (500, 2_000, 8_000), 4


@dataclass(frozen=True)
class Side:
    """What one side did with all problems.

    Attributes:
        seconds: from the first question to the last answer.
        generated, prompt, requests: by the server's own counters; prompt tokens with those found in its cache.
        accuracy: share of right answers.
    """

    seconds: float
    generated: int
    prompt: int
    requests: int
    accuracy: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.generated} tokens, {self.prompt} prompt tokens, {self.requests} sequences, "
            f"accuracy {self.accuracy:.3f}"
        )


@contextmanager
def driver(python: str, name: str) -> Iterator[Any]:
    """A function that sends a run to a driver in another environment and returns what it says."""
    with subprocess.Popen(
        [python, str(DRIVERS / f"drive_{name}.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        into, out = process.stdin, process.stdout

        def ask(**told: Any) -> dict[str, Any]:
            into.write(json.dumps(told) + "\n")
            into.flush()
            if not (line := out.readline()):
                raise ConfigError("peers", python, f"the driver of {name} ended, see its words above")
            found: dict[str, Any] = json.loads(line)
            return found

        yield ask
        into.close()


@contextmanager
def judging() -> Iterator[str]:
    """The address of the process reward model that both sides ask."""
    with subprocess.Popen(
        [sys.executable, "-m", "experiments.peers.judge"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def searches() -> Mapping[str, Search]:
    """Ours, each set to do what theirs does: as many samples, and a filter that resamples after each step."""
    return {
        "beam": Beam(BEAMS, SAMPLES // BEAMS, DEPTH, fill=False),
        "particles": ParticleFilter(SAMPLES, order="propagate-resample", answer="last", depth=DEPTH),
        "best_of_n": Flat(SAMPLES),
    }


async def ours(search: Search, server: Server, judge: str, task: Arithmetic, items: Sequence[Item]) -> Side:
    """Every problem at once, over one connection; what it asks to find out what the server can do is not counted."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=TOGETHER)
    lean = Endpoint(  # asks the server for what theirs asks for, no more
        server.url, tokenizer="models/policy", seeded=False, weighed=False, start=TOGETHER, concurrency=TOGETHER
    )
    async with (
        lean as policy,
        httpx.AsyncClient(limits=limits, timeout=600, trust_env=False) as http,
    ):

        async def one(item: Item) -> str:
            messages = task.messages(item)
            asked = Judge(judge, messages[-1]["content"], http)
            session = Session(policy.prompt(messages), policy, asked, step=STEP, whole=WHOLE)
            outcome = await run(search, session, Best(), task)
            return outcome.answer.prefix.text if outcome.answer else ""

        before, began = server.counters(), time.perf_counter()
        answers = await asyncio.gather(*map(one, items))
        seconds = time.perf_counter() - began
        return await side(task, items, answers, seconds, before, server.counters())


def its_hub(server: Server, judge: str, ask: Any, name: str, count: int, together: int) -> tuple[Side, Side]:
    """Theirs and ours, one after the other, on the first `count` problems; theirs with so many of them at once."""
    task = Arithmetic()
    items = cut(task.items(), count)
    before = server.counters()
    said = ask(
        url=server.url, model="policy", judge=judge, algorithm=name, budget=SAMPLES, beams=BEAMS, depth=DEPTH,
        questions=[task.messages(item)[-1]["content"] for item in items], temperature=TEMPERATURE, together=together,
        limit=WHOLE.max_tokens if name == "best_of_n" else STEP.max_tokens,
    )  # fmt: skip
    theirs = asyncio.run(side(task, items, said["answers"], said["seconds"], before, server.counters()))
    return theirs, asyncio.run(ours(searches()[name], server, judge, task, items))


async def side(
    task: Arithmetic,
    items: Sequence[Item],
    answers: Sequence[str],
    seconds: float,
    before: Mapping[str, int],
    after: Mapping[str, int],
) -> Side:
    """The answers graded, and what the server counted meanwhile."""
    right = [(await task.grade(i, a)).verdict == "right" for i, a in zip(items, answers, strict=True)]
    generated, prompt, requests = (after[name] - before[name] for name in ("generated", "prompt", "requests"))
    return Side(seconds, generated, prompt, requests, fmean(right))


@dataclass(frozen=True)
class Script:
    """A policy and verifier that answer without work: a draw is its number, a score follows from the path."""

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        """One token per seed."""
        return [Reply(tuple(self._segment(r, s) for s in r.seeds), Cost(policy_calls=1)) for r in requests]

    def _segment(self, request: Request, seed: int) -> Segment:
        return Segment((seed % 2**31,), "x", (-1.0,), Finish.STEP if request.sampling.until else Finish.END)

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """In [0, 1)."""
        return [Verdict(int.from_bytes(blake2b(p.digest, digest_size=4).digest(), "little") / 2**32) for p in prefixes]


def per_node(nodes: int) -> float:
    """Seconds of processor time for each node that our MCTS evaluated and backed up."""
    model: Policy = Script()
    session = Session(
        Segment((0,), "?"), model, Script(), step=Sampling(until=Tokens(1), max_tokens=1), whole=Sampling(max_tokens=1)
    )
    search = MCTS(nodes, WIDTH, rule=uct, c=math.sqrt(2), prior=uniform, depth=10_000)
    began = time.process_time()
    asyncio.run(search(session))
    return (time.process_time() - began) / session.root.visits


def treequest(ask: Any) -> Iterator[Figure]:
    """Their processor time per node over ours, on trees of several sizes."""
    said = {
        size: [
            (1e6 * (t := ask(width=WIDTH, nodes=size))["seconds"] / t["nodes"], 1e6 * per_node(size)) for _ in range(3)
        ]
        for size in (NODES[0], *NODES)
    }  # the first once more, to warm both
    sizes = ", ".join(
        f"{size}: {fmean(t for t, _ in pairs):.0f} against {fmean(o for _, o in pairs):.0f} us"
        for size, pairs in said.items()
    )
    note = (
        f"UCT, {WIDTH} children, scripted steps and scores; processor time of each node that was sampled, scored and "
        f"backed up; by nodes, theirs against ours: {sizes}; theirs steps in place and keeps a tree, ours also keeps "
        "seeds, costs and events"
    )
    for size in reversed(NODES):
        tail = "" if size == max(NODES) else f".{size}"
        yield measured(f"peers.treequest_mcts{tail}", "ratio", f"{size} nodes; {note}", [t / o for t, o in said[size]])


def figures(peers: str | None = None, vllm: str | None = None) -> Iterator[Figure]:
    """`peers.treequest_mcts`, `peers.its_hub_beam`, `peers.its_hub_particles`, `peers.its_hub_best_of_n`."""
    theirs = peers_python(peers)
    here = vllm_python(vllm)
    with driver(theirs, "treequest") as ask:
        yield from treequest(ask)
    with serving(here) as server, judging() as judge, driver(theirs, "its_hub") as ask:
        for name in searches():
            its_hub(server, judge, ask, name, WARM, TOGETHER)
            pairs = [its_hub(server, judge, ask, name, PROBLEMS, TOGETHER) for _ in range(REPEATS)]
            yield measured(f"peers.its_hub_{name}", "ratio", said(pairs), [t.seconds / o.seconds for t, o in pairs])
            turns = [its_hub(server, judge, ask, name, PROBLEMS, 1)]
            note = "theirs as its README runs it, a problem after the other; " + said(turns)
            yield measured(f"peers.its_hub_{name}.in_turn", "ratio", note, [t.seconds / o.seconds for t, o in turns])
            note = f"ours over theirs, {name}: tokens generated, as the server counts"
            yield measured(f"peers.its_hub_{name}.tokens", "ratio", note, [o.generated / t.generated for t, o in pairs])


def said(pairs: Sequence[tuple[Side, Side]]) -> str:
    """The means of both sides, and what was equal and what was not."""
    theirs, mine = (_mean([pair[i] for pair in pairs]) for i in range(2))
    return (
        f"{PROBLEMS} arithmetic problems, at once where nothing else is said, {SAMPLES} samples, "
        f"theirs ({PEERS[0]}): {theirs}; ours: {mine}. "
        f"Equal: vLLM server, model, PRM behind one HTTP process, steps, stop strings, limits ({STEP.max_tokens} "
        f"tokens a step, {WHOLE.max_tokens} a completion, {DEPTH} steps), temperature {TEMPERATURE}, no seeds. Not "
        "equal: theirs sends a chat request for each sample, ours token ids for each wave of a search; ours keeps "
        "equal steps as one, and scores them once"
    )


def _mean(sides: Sequence[Side]) -> Side:
    generated, prompt, requests = (
        round(fmean(getattr(s, n) for s in sides)) for n in ("generated", "prompt", "requests")
    )
    return Side(fmean(s.seconds for s in sides), generated, prompt, requests, fmean(s.accuracy for s in sides))


def peers_python(told: str | None) -> str:
    """The interpreter that has the packages; ConfigError, with the command that makes one, if it has not."""
    found = told or str(Path(".venv/peers/bin/python"))
    packages = [name.partition("==")[0].partition("[")[0] for name in PEERS]
    asked = f"import {', '.join(packages)}"
    try:
        if subprocess.run([found, "-c", asked], capture_output=True, cwd="/", timeout=120).returncode == 0:
            return found
    except OSError:
        pass
    wanted = " ".join(f"'{name}'" for name in PEERS)
    remedy = f"python3 -m venv .venv/peers && .venv/peers/bin/pip install {wanted}"
    raise ConfigError("peers", told, f"this python has not {' and '.join(packages)}; make one by: {remedy}")
