"""How fast one replica is, measured through a pool of one: the numbers of a `Station`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from experiments.item import Task
from experiments.plan.station import Station
from search.ports import Policy, Renders, Verifier, ability
from search.types import Prefix, Request, Sampling, Segment


async def drawing(policy: Policy, task: Task, sampling: Sampling, rows: Sequence[int], repeats: int) -> Station:
    """Of a policy: n draws at once, by one request or by several, short and long, of prompts seen before or not.

    They take `fixed` x (longest draw) + `row` x (all tokens) + `call` x requests + `draw` x draws + (prompt tokens that
    no cache held) / `prefill`: five unknowns for many trials, found by least squares on relative errors.
    """
    prompts = _prompts(policy, task)
    number, lines, times = 0, [], []
    short = replace(sampling, max_tokens=max(sampling.max_tokens // 8, 1))
    for repeat in range(repeats + 1):
        for count in rows:
            for each, how in itertools.product({1, min(count, 16)}, (short, sampling)):
                chosen = [prompts[(number + i) % len(prompts)] for i in range(-(-count // each))]
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
    fixed, row, call, draw, reading = _least(lines, times)
    most = max(rows)
    alone, together = 1 / (fixed + row), most / (fixed + row * most)
    prefill = 1 / reading if reading else float("inf")
    return Station(rate=alone, full=max(together, alone), rows=most, prefill=prefill, call=call, draw=draw)


async def judging(verifier: Verifier, policy: Policy, task: Task, repeats: int) -> Station:
    """Of a verifier: 1, 4 and 16 prefixes at once that it has not seen."""
    renders = ability(policy, Renders)
    assert renders is not None
    lines, times, number = [], [], 0
    items = task.items()
    for repeat in range(repeats + 1):
        for count in (1, 4, 16):
            prefixes = []
            for _ in range(count):
                item, number = items[number % len(items)], number + 1
                step = await _step(policy, renders.prompt(task.messages(item)), number)
                prefixes.append(Prefix(step.prompt, step.steps, item.question))
            began = time.perf_counter()
            verdicts = await verifier.score(prefixes)
            took = time.perf_counter() - began
            if repeat:
                lines.append((count, sum(verdict.cost.read for verdict in verdicts)))
                times.append(took)
    call, reading = _least(lines, times)
    return Station(call=call, prefill=1 / reading if reading else float("inf"))


async def _step(policy: Policy, prompt: Segment, seed: int) -> Prefix:
    (reply,) = await policy.sample([Request(Prefix(prompt), Sampling(max_tokens=24), (seed,))])
    return Prefix(prompt, (reply.segments[0],))


def _prompts(policy: Policy, task: Task) -> list[Prefix]:
    renders = ability(policy, Renders)
    assert renders is not None
    return [Prefix(renders.prompt(task.messages(item))) for item in task.items()]


def _least(lines: Sequence[Sequence[float]], times: Sequence[float]) -> list[float]:
    """Non-negative coefficients: what would be below zero is left out, the worst first."""
    a, b = np.array(lines, dtype=float), np.array(times, dtype=float)
    a, b = a / b[:, None], np.ones_like(b)  # relative errors
    kept = list(range(a.shape[1]))
    while kept:
        found = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        if (found >= 0).all():
            break
        del kept[int(np.argmin(found * a[:, kept].mean(axis=0)))]
    whole = [0.0] * a.shape[1]
    for place, value in zip(kept, found if kept else (), strict=True):
        whole[place] = float(value)
    return whole
