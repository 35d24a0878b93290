"""Where a growing tree of trajectories forks, and what it goes back to: the policies of TreePO (arXiv:2508.17445)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from search.endings import Ending, Trajectory
from search.shares import evenly, largest_remainder
from search.tree import Node
from search.weights import softmax

ALLOCATIONS = ("even", *(f"{sign}{v}logprob" for sign in ("", "inverse_") for v in ("", "norm_", "node_")))
SOURCES = ("finished_first", "finished_first_strict", "random_all", "ended", "longer_first", "long_answers", "none")
POSITIONS = ("random", "min_logprob_token", "block", "inverse_block", "from_start")


def likelihood(node: Node, kind: str) -> float:
    """Nats: of the whole path (""), per token of it ("norm_"), or per token of its last segment ("node_")."""
    if kind == "node_":
        return node.segment.mean_logprob
    logprobs = path_logprobs(node)
    return math.fsum(logprobs) / (max(len(logprobs), 1) if kind == "norm_" else 1)


def path_logprobs(node: Node) -> list[float]:
    """Of the tokens after the prompt, in nats."""
    return [x for step in node.prefix.steps for x in step.logprobs]


def fork(
    paths: Sequence[Node], total: int, allocation: str, temperature: float, rng: random.Random | None
) -> list[int]:
    """How often each of `paths` goes on: at least once each, `total` (>= len(paths)) in all.

    "even": the same for all, the remainder to paths drawn by `rng`, or to the last without one (as published).
    "logprob", with "norm_" or "node_" before it (see `likelihood`): beyond the first, by largest remainder of
    softmax(-v / temperature), so that unlikely paths fork more; "inverse_": softmax(v / temperature).
    """
    if allocation == "even":
        return evenly(len(paths), total, rng)
    sign = 1 if allocation.startswith("inverse_") else -1
    kind = allocation.removeprefix("inverse_").removesuffix("logprob")
    weights = softmax([sign * likelihood(path, kind) for path in paths], temperature)
    return [1 + more for more in largest_remainder(weights, total - len(paths))]


def sources(finished: Sequence[Trajectory], policy: str, length: int, rng: random.Random) -> list[Trajectory]:
    """The trajectories to go back to, in order.

    "finished_first": a random order in which those of high priority (see `Ending`) tend to come first; "_strict":
    sorted by priority, lowest first, as the published code has it; "random_all": any order; "ended": those with an
    answer or an end, in any order; "longer_first": a random order in which long ones tend to come first;
    "long_answers": those with an answer and at least `length` tokens.
    """
    match policy:
        case "finished_first":
            return _shuffled(finished, [t.ending for t in finished], rng)
        case "finished_first_strict":
            return sorted(finished, key=lambda t: t.ending)
        case "ended":
            return _shuffled([t for t in finished if t.ending in (Ending.ANSWERED, Ending.END)], None, rng)
        case "longer_first":
            return _shuffled(finished, [max(t.tokens, 1) for t in finished], rng)
        case "long_answers":
            return [t for t in finished if t.ending is Ending.ANSWERED and t.tokens >= length]
        case "random_all":
            return _shuffled(finished, None, rng)
    raise ValueError(f"there is no source policy {policy!r}")


def kept(trajectory: Trajectory, position: str, window: int, back: int | None, block: int, rng: random.Random) -> int:
    """How many tokens of `trajectory` a new one starts with; less than it has, unless it has none.

    "random": whole windows of `window` tokens less 1 to `back` of them (None: to all); "min_logprob_token": up to
    the least likely token; "block": up to a block of `block` tokens drawn by softmax(-mean log-probability), so
    that unlikely ones are tried again; "inverse_block": softmax(+mean log-probability); "from_start": none.
    """
    logprobs = path_logprobs(trajectory.leaf)
    if position == "from_start" or not logprobs:
        return 0
    if position == "random":
        blocks = math.ceil(len(logprobs) / window)
        return (blocks - rng.randint(1, min(back or blocks, blocks))) * window
    if position == "min_logprob_token":
        return logprobs.index(min(logprobs))
    sign = 1 if position == "inverse_block" else -1
    starts = range(0, len(logprobs), block)
    means = [math.fsum(logprobs[i : i + block]) / len(logprobs[i : i + block]) for i in starts]
    (start,) = rng.choices(starts, softmax([sign * mean for mean in means]))
    return start


def _shuffled(items: Sequence[Trajectory], weights: Sequence[float] | None, rng: random.Random) -> list[Trajectory]:
    """Drawn one after the other without replacement, by weight (Gumbel's trick); all weights alike for None."""
    keys = [math.log(w) - math.log(-math.log(1 - rng.random() or 0.5)) for w in weights or [1.0] * len(items)]
    return [items[i] for i in sorted(range(len(items)), key=lambda i: -keys[i])]
