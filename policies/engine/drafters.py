"""What may follow, from what was seen: drafters that learn from the tokens and the logits of the target itself.

A drafter says for contexts which tokens are likely next, with log-probabilities at temperature 1. Whoever asks adds
the noise of the draw (`coupled`), so that a stochastic draw is guessed as well as a greedy one (STAND: Song et al.
2025, "Accelerated Test-Time Scaling with Model-Free Speculative Sampling"; coupling: Daliri, Musco and Suresh 2024,
"Coupling without Communication and Drafter-Invariant Speculative Decoding"). No guess changes a result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from policies.engine.growth import tail
from policies.engine.sampler import noise
from policies.engine.schedule import Row, Scheduler

KEPT = 10  # next tokens remembered for a context
NOTHING = -np.inf


class Context(NamedTuple):
    """A place to guess from: after `path` (guesses) after all that `row` has drawn."""

    row: Row
    path: tuple[int, ...]


class Guesses(NamedTuple):
    """For C contexts: what may follow, likeliest first.

    Attributes:
        tokens: int64 [C, K].
        logprobs: float64 [C, K], at temperature 1, up to a constant per context; -inf pads.
        kind: int64 [C], from 0: how much is known here, in classes whose guesses come true at different rates.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    kind: np.ndarray


class Drafter(Protocol):
    """Guesses what follows.

    Attributes:
        name: for the counters.
        kinds: how many classes of guesses it tells apart.
        wide: whether it may be asked for several contexts of one row at one depth.
        learns: which of the target's distributions it wants to be told: "none", "path" (after what was drawn) or
            "all" (after rejected guesses too).
    """

    name: str
    kinds: int
    wide: bool
    learns: Literal["none", "path", "all"]

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """A pass begins for all running `rows`: which of them it can guess for."""
        ...

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """What may follow each context; a row of -inf where nothing is known."""
        ...

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """After each of the contexts `before`, the target's likeliest tokens [n, KEPT] and log-probabilities."""
        ...

    def forget(self) -> None:
        """Rows are gone without having ended (the model failed)."""
        ...


def coupled(
    guesses: Guesses,
    seeds: np.ndarray,
    positions: np.ndarray,
    temperature: np.ndarray,
    top_k: np.ndarray,
    top_p: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two tokens [C] that the target most likely draws at each context, and by how much the first leads [C].

    The rule of the sampler with the guessed distribution in place of the target's: temperature, top-k and top-p, then
    the draw's own noise. The second token is -1 and the lead infinite where only one is possible; both are -1 where
    nothing is known.
    """
    greedy = temperature == 0
    scores = guesses.logprobs / (temperature + greedy)[:, None]
    cut = ~greedy & ((top_p < 1) | (top_k > 0))
    if cut.any():
        share = np.exp(scores - scores.max(-1, keepdims=True, initial=-1e300))
        share /= np.maximum(share.sum(-1, keepdims=True), 1e-300)
        before = np.cumsum(share, -1) - share
        rank = np.arange(scores.shape[1])
        drop = (before >= top_p[:, None]) & (top_p[:, None] < 1) | (
            rank >= np.where(top_k > 0, top_k, 1 << 30)[:, None]
        )
        scores = np.where(drop & cut[:, None] & (rank > 0), NOTHING, scores)
    if not greedy.all():
        scores = np.where(greedy[:, None], scores, scores + noise(seeds, positions, guesses.tokens))
    lines = np.arange(len(scores))
    first = scores.argmax(-1)
    best = scores[lines, first]
    scores[lines, first] = NOTHING
    second = scores.argmax(-1)
    runner = scores[lines, second]
    known, two = best > NOTHING, runner > NOTHING
    lead = np.where(two, best - np.where(two, runner, 0.0), np.inf)
    return (
        np.where(known, guesses.tokens[lines, first], -1),
        np.where(known & two, guesses.tokens[lines, second], -1),
        lead,
    )


class NGram:
    """Distributions by context: the longest known suffix of the last 8 tokens, 6, 4, 3, 2, 1.

    Live and shared: what one row has drawn helps its siblings in the next pass, and other searches later. A context
    seen again has its latest distribution; the contexts that were not seen for longest are forgotten. (STAND averages
    over what it has seen, up to 4 tokens of context; averaging made hardly a difference here, and costs more.)

    Args:
        entries: contexts remembered.
    """

    name: str = "ngram"
    wide = True
    learns: Literal["none", "path", "all"] = "path"
    orders = (8, 6, 4, 3, 2, 1)
    kinds = 2 * len(orders)  # by order, and by whether the context was seen once or more

    def __init__(self, entries: int = 200_000):
        self._entries = entries
        self._known: OrderedDict[tuple[int, ...], tuple[np.ndarray, np.ndarray, bool]] = OrderedDict()

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """Whatever runs."""
        self._tails = {row: tail(schedule, row, self.orders[0]) for row in rows}
        return [True] * len(rows)

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """By the longest suffix that is known."""
        tokens = np.zeros((len(contexts), KEPT), np.int64)
        logprobs = np.full((len(contexts), KEPT), NOTHING)
        kind = np.zeros(len(contexts), np.int64)
        for c, (row, path) in enumerate(contexts):
            known = self._tails[row] + path
            for i, order in enumerate(self.orders):
                if (found := self._known.get(known[-order:])) is not None:
                    tokens[c], logprobs[c], again = found
                    kind[c] = 2 * i + again
                    break
        return Guesses(tokens, logprobs, kind)

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """Every order of every context."""
        known = self._known
        for context, following, values in zip(before, tokens, logprobs, strict=True):
            for order in self.orders:
                if order > len(context):
                    continue
                key = tuple(context[-order:])
                known[key] = (following, values, known.pop(key, None) is not None)
        while len(known) > self._entries:
            known.popitem(last=False)

    def forget(self) -> None:
        """Nothing is kept by row."""
        self._tails = {}


class Recycle:
    """Token recycling (Luo et al. 2024, "Turning Trash into Treasure"): a token's latest likeliest successors.

    The matrix of the paper, one row per token of the vocabulary; with log-probabilities, so that draws can be coupled.
    As the paper, it learns from rejected guesses too: what followed them is the target's opinion all the same.
    """

    name: str = "recycle"
    wide = True
    learns: Literal["none", "path", "all"] = "all"
    kinds = 1

    def __init__(self, vocabulary: int):
        self._tokens = np.zeros((vocabulary, KEPT), np.int64)
        self._logprobs = np.full((vocabulary, KEPT), NOTHING)

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """Whatever runs."""
        self._last = {row: tail(schedule, row, 1)[0] for row in rows}
        return [True] * len(rows)

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """By the last token."""
        last = np.array([path[-1] if path else self._last[row] for row, path in contexts], np.int64)
        return Guesses(self._tokens[last], self._logprobs[last], np.zeros(len(last), np.int64))

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """The latest counts."""
        last = [context[-1] for context in before]
        self._tokens[last], self._logprobs[last] = tokens, logprobs

    def forget(self) -> None:
        """Nothing is kept by row."""
        self._last = {}
