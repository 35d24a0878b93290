"""How fast one replica is, measured through a pool of one: the numbers of a `Station`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from experiments.item import Item, Task
from experiments.plan.fit import relative
from experiments.plan.station import Station
from search.errors import ConfigError
from search.ports import Policy, Renders, Verifier, ability
from search.types import Prefix, Request, Sampling, Segment

LONG = 6  # times the questions of long prompts are repeated in them


async def drawing(policy: Policy, task: Task, sampling: Sampling, rows: Sequence[int], repeats: int) -> Station:
    """Of a policy: n draws at once, by one request or by several, short and long, after new prompts, short and long.

    They take `fixed` x (longest draw) + `row` x (all tokens) + `call` x requests + `draw` x draws + (prompt tokens that
    no cache held) / `prefill`: five unknowns for many trials, found by least squares on relative errors. Raises
    ConfigError for what the trials do not tell.
    """
    number, lines, times = 0, [], []
    short = replace(sampling, max_tokens=max(sampling.max_tokens // 8, 1))
    for repeat in range(repeats + 1):
        for count in rows:
            for each, how, long in itertools.product({1, min(count, 16)}, (short, sampling), (1, LONG)):
                chosen = prompts(policy, task, range(number, number + -(-count // each)), long)
                number += count
                seeds = [tuple(range(number + i * each, number + (i + 1) * each)) for i in range(len(chosen))]
                requests = [Request(prompt, how, drawn) for prompt, drawn in zip(chosen, seeds, strict=True)]
                began = time.perf_counter()
                replies = await asyncio.gather(*(policy.sample([request]) for request in requests))
                took = time.perf_counter() - began
                if repeat:  # the first warms up
                    lengths = [len(segment.tokens) for (reply,) in replies for segment in reply.segments]
                    read = sum(reply.cost.prefilled for (reply,) in replies)
                    lines.append((max(lengths), sum(lengths), len(requests), len(lengths), read))
                    times.append(took)
    names = ("rate", "full", "call", "draw", "prefill")
    fixed, row, call, draw, reading = _told_by(lines, times, "policy", names)
    most = max(rows)
    alone, together = 1 / (fixed + row), most / (fixed + row * most)
    return Station(rate=alone, full=max(together, alone), rows=most, prefill=1 / reading, call=call, draw=draw)


async def judging(verifier: Verifier, policy: Policy, task: Task, repeats: int) -> Station:
    """Of a verifier: 1, 4 and 16 prefixes at once that it has not seen, short and long. Raises as `drawing`."""
    renders = _renders(policy)
    lines, times, number = [], [], 0
    items = task.items()
    for repeat in range(repeats + 1):
        for count, long in itertools.product((1, 4, 16), (1, LONG)):
            prefixes = []
            for _ in range(count):
                item, number = items[number % len(items)], number + 1
                step = await _step(policy, renders.prompt(task.messages(item)), number)
                prefixes.append(Prefix(step.prompt, step.steps, _told(item, number, long)))
            began = time.perf_counter()
            verdicts = await verifier.score(prefixes)
            took = time.perf_counter() - began
            if repeat:
                lines.append((count, sum(verdict.cost.read for verdict in verdicts)))
                times.append(took)
    call, reading = _told_by(lines, times, "verifier", ("call", "prefill"))
    return Station(call=call, prefill=1 / reading)


async def _step(policy: Policy, prompt: Segment, seed: int) -> Prefix:
    (reply,) = await policy.sample([Request(Prefix(prompt), Sampling(max_tokens=24), (seed,))])
    return Prefix(prompt, (reply.segments[0],))


def prompts(policy: Policy, task: Task, numbers: Iterable[int], long: int = 1) -> list[Prefix]:
    """Of so many questions that no cache holds."""
    renders, items = _renders(policy), task.items()
    asked = [_told(items[number % len(items)], number, long) for number in numbers]
    return [Prefix(renders.prompt([{"role": "user", "content": text}])) for text in asked]


def _told(item: Item, number: int, long: int) -> str:
    """A question that no cache holds, so many times as long: the number in front is its own."""
    return " ".join([f"{number}.", *[item.question] * long])


def _renders(policy: Policy) -> Renders:
    renders: Renders | None = ability(policy, Renders)
    assert renders is not None
    return renders


def _told_by(
    lines: Sequence[Sequence[float]], times: Sequence[float], station: str, names: Sequence[str]
) -> list[float]:
    """Coefficients of relative errors' least squares, each more than nothing."""
    found = []
    for name, value in zip(names, relative(lines, times), strict=True):
        if value is None:
            remedy = "the trials do not tell it: give more repeats, or rows that differ more"
            raise ConfigError(f"{station}.{name}", None, remedy)
        found.append(value)
    return found
