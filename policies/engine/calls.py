"""What is asked of the engine, how far it is, and the answers: calls, their rows, and prompts being computed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from policies.engine.kv import Edge


class Watch(Protocol):
    """What a draw's rule sees of it."""

    def __call__(self, tokens: Sequence[int], logprobs: Sequence[float]) -> bool:
        """Told what follows the tokens told before, with what is drawn (nats, of the distribution sampled from; 0 at
        temperature 0), end tokens left out: whether the draw stops after the last of them."""
        ...


@dataclass(slots=True)
class Tally:
    """What a call cost: prompt tokens computed and found, tokens sampled and guessed, seconds of model time."""

    prefilled: int = 0
    reused: int = 0
    generated: int = 0
    drafted: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Draw:
    """One sampled continuation; `finish` is "end" (an end token, the last of `tokens`), "stop" or "length"."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: str


@dataclass(slots=True, eq=False)
class Call:
    """What is asked of the engine, and how far it is.

    Attributes:
        ids: the prompt, at least one token.
        limit: tokens in a draw; the prompt and a draw fit the context.
        watch: makes one watcher per draw.
        alert: at other tokens than these the watchers let no draw stop, and need not be asked; None: at any.
        start: for a reading call, the first position whose head output is wanted; -1 for a sampling call.
        targets: a reading call with targets wants log-probabilities instead of the head's output: of the target at
            each position, one per position read, and of the likeliest token there.
        owner: who shares the engine with whom; owners take turns.
        top: a listing call, of one seed and one token: in place of a draw the `top` likeliest next tokens ...
        among: ... of this many, the first ids; their log-probabilities are normalised over these.
    """

    ids: tuple[int, ...]
    future: asyncio.Future[Any]
    seeds: tuple[int, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    limit: int = 0
    ends: frozenset[int] = frozenset()
    watch: Callable[[], Watch] | None = None
    start: int = -1
    targets: tuple[int, ...] = ()
    owner: Hashable = None
    alert: Collection[int] | None = None
    top: int = 0
    among: int = 0
    draws: list[Draw | None] = field(default_factory=list)
    begun: int = 0  # draws admitted
    tally: Tally = field(default_factory=Tally)
    over: bool = False
    since: float = 0.0  # when the worker took it in


@dataclass(slots=True, eq=False)
class Row:
    """A draw that runs; `index` is its line in the scheduler's tables, `told` what its watcher knows of its tokens."""

    call: Call
    draw: int
    index: int
    edge: Edge
    watch: Watch | None
    told: int = 0


@dataclass(slots=True, eq=False)
class Prefill:
    """Prompt tokens to compute: ids[done:], some per forward; then `rows` draw their first token.

    Attributes:
        slots: int64 [len(ids)], where each token's keys and values are or will be.
        cached: tokens found in the tree; those from `done` on are computed again for their output only.
    """

    call: Call
    slots: np.ndarray
    cached: int
    done: int
    edge: Edge
    rows: list[Row] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    chunk: int = 0  # tokens in the forward being planned

    @property
    def like_a_row(self) -> bool:
        """Whether but the last token is left, and a row waits for it that has the prompt in its line already."""
        return bool(self.rows) and self.done + 1 == len(self.slots)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sampling call's answer: draws in the order of its seeds."""

    draws: tuple[Draw, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Listed:
    """A listing call's answer: tokens, likeliest first, the lower id first where equal, and their log-probabilities."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # nats at temperature 1
    tally: Tally


@dataclass(frozen=True, slots=True)
class Outputs:
    """A reading call's answer: float32 [positions, C], on the CPU."""

    values: torch.Tensor
    tally: Tally


def lines(rows: Sequence[Row]) -> np.ndarray:
    """The rows' lines in the scheduler's tables, int64 [rows]."""
    return np.fromiter((row.index for row in rows), np.int64, len(rows))
