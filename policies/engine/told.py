"""Guesses from outside: what another model, served elsewhere, drew for the same prefix and the same seed.

The noise of a draw is a function of its seed and the position, so a smaller model with the same tokenizer that is asked
the same draws what the target is likely to draw. Its whole step is told beforehand. It is followed while it is right,
and again, as guesses of another sort, once the two agree after a token they differed in. As all guesses it changes no
result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from policies.engine.drafters import NOTHING, Context, Guesses
from policies.engine.schedule import Row, Scheduler

ENTRIES = 4096  # draws that are remembered until they run; the oldest are forgotten
LAST = 2  # tokens that must agree at their places for the next one to be guessed


class Told:
    """Guesses by prompt and seed.

    Args:
        vocabulary: of the target; ids beyond are never guessed.
    """

    name: str = "told"
    wide = False
    learns: Literal["none", "path", "all"] = "none"
    kinds = 2  # right so far; right again

    def __init__(self, vocabulary: int):
        self._vocabulary = vocabulary
        self._known: OrderedDict[tuple[tuple[int, ...], int], tuple[int, ...]] = OrderedDict()
        self._rows: dict[Row, tuple[int, ...]] = {}
        self._drawn: dict[Row, tuple[int, ...]] = {}

    def tell(self, ids: tuple[int, ...], seeds: Sequence[int], guesses: Sequence[Sequence[int]]) -> None:
        """What each draw after `ids` may be, in the order of `seeds`; from any thread."""
        for seed, tokens in zip(seeds, guesses, strict=False):
            self._known[ids, seed] = tuple(tokens)
        while len(self._known) > ENTRIES:
            self._known.popitem(last=False)

    def begin(self, schedule: Scheduler, rows: Sequence[Row]) -> list[bool]:
        """A pass begins: it can guess for rows that have not drawn as much as it was told."""
        running = set(rows)
        self._rows = {row: told for row, told in self._rows.items() if row in running}
        self._drawn = {}
        for row in rows:
            if row not in self._rows:
                self._rows[row] = self._known.pop((row.call.ids, row.call.seeds[row.draw]), ())
            count = int(schedule.count[row.index])
            if count < len(self._rows[row]):
                self._drawn[row] = tuple(schedule.tokens[row.index, :count].tolist())
        return [row in self._drawn for row in rows]

    def guess(self, contexts: Sequence[Context]) -> Guesses:
        """The next token told, where the last ones were right."""
        tokens = np.zeros((len(contexts), 1), np.int64)
        logprobs = np.full((len(contexts), 1), NOTHING)
        kind = np.zeros(len(contexts), np.int64)
        for c, (row, path) in enumerate(contexts):
            told, before = self._rows[row], self._drawn[row] + path
            at = len(before)
            if at < len(told) and told[max(at - LAST, 0) : at] == before[-LAST:] and told[at] < self._vocabulary:
                tokens[c, 0], logprobs[c, 0] = told[at], 0.0
                kind[c] = told[:at] != before
        return Guesses(tokens, logprobs, kind)

    def learn(self, before: Sequence[Sequence[int]], tokens: np.ndarray, logprobs: np.ndarray) -> None:
        """It is told, and learns nothing."""

    def forget(self) -> None:
        """What was told of rows that are gone is of no use."""
        self._rows, self._drawn = {}, {}
