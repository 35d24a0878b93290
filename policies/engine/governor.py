"""What a draft costs and whether it pays: seconds by tokens in a forward, and tokens per second with and without.

The shape of a draft follows the model of cost (goodput: Liu et al. 2024, "Optimizing Speculative Decoding for Serving
LLMs Using Goodput"); whether there is one at all follows what was measured at that number of rows, so that an error of
the model cannot keep a draft alive that slows the engine down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PAYS = 1.02  # a draft must bring this many times the tokens per second of none
HOPE = 1.1  # what drafts must bring at fewer rows to be tried at more
BURST = 3  # passes of a trial: the first follows one of the other kind, and is slower for that
COLD = 4  # forwards at the start that say nothing about the next
OUTLIER = 2.0  # what takes so many times as long as expected was disturbed, and counts as that
SHAPE = 0.02
AGAIN = (24, 160)  # passes after which the worse way is tried again: while it is unsettled, and when it is far behind


@dataclass(slots=True)
class Cost:
    """Seconds of a forward by its tokens, c0 + c1 * tokens: least squares with forgetting.

    A weak belief that a token adds `SHAPE` of the fixed cost stands in where all forwards are of one size.
    """

    _square: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    _cross: np.ndarray = field(default_factory=lambda: np.zeros(2))
    _cold: int = COLD
    fixed: float = 0.0
    token: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """One forward (mutates)."""
        if self._cold:
            self._cold -= 1
            return
        if self.fixed:
            seconds = min(seconds, OUTLIER * (self.fixed + self.token * tokens))
        base = self.fixed or seconds / (1 + SHAPE * tokens)
        self._square *= 0.98
        self._cross *= 0.98
        self._add(tokens, seconds, 1.0)
        for size in (0, 50):
            self._add(size, base * (1 + SHAPE * size), 0.02)
        fixed, token = np.linalg.solve(self._square, self._cross).tolist()
        self.fixed = max(fixed, 0.2 * seconds)
        self.token = max(token, 0.002 * self.fixed)  # a slope that noise made negative would ask for endless drafts

    def _add(self, tokens: int, seconds: float, weight: float) -> None:
        row = np.array([1.0, tokens])
        self._square += weight * np.outer(row, row)
        self._cross += weight * row * seconds


@dataclass(slots=True)
class Rate:
    """Tokens and seconds of one way of working, the past forgotten slowly."""

    tokens: float = 0.0
    seconds: float = 0.0
    tries: int = -2  # the first are cold and do not count
    last: int = 0  # the pass of the latest try
    left: int = 0  # passes of a trial still to come

    def observe(self, tokens: float, seconds: float, now: int) -> None:
        """One pass (mutates)."""
        self.tries, self.last = self.tries + 1, now
        if self.tries <= 0:
            return
        if self.tries > 3:
            seconds = min(seconds, OUTLIER * tokens / self.value)
        self.tokens = 0.96 * self.tokens + tokens
        self.seconds = 0.96 * self.seconds + seconds

    @property
    def value(self) -> float:
        """Tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(slots=True)
class Governor:
    """Decides whether to draft, and prices what a draft would add.

    Attributes:
        forced: always draft, whatever it costs (for tests of exactness).
        cost: of forwards.
    """

    forced: bool = False
    cost: Cost = field(default_factory=Cost)
    now: int = 0
    _rates: dict[tuple[int, bool], Rate] = field(default_factory=dict)
    _levels: dict[tuple[str, int], float] = field(default_factory=dict)

    def wanted(self, rows: int) -> bool:
        """Whether this pass, of so many running rows, should have a draft (mutates the count of passes)."""
        self.now += 1
        if self.forced:
            return True
        if not self.cost.fixed:
            return False
        on, off = self._rate(rows, True), self._rate(rows, False)
        if on.tries < 1 and (smaller := self._smaller(rows)) is not None and smaller < HOPE:
            return False  # it pays less the more rows there are
        if on.tries < 3 or off.tries < 3:
            return on.tries <= off.tries
        better, worse = (on, off) if on.value > PAYS * off.value else (off, on)
        loss = better.value / max(worse.value, 1e-9)
        again = AGAIN[0] + (AGAIN[1] - AGAIN[0]) * min(max(loss - 1, 0.0), 1.0)
        if self.now - worse.last > again:
            worse.left = BURST
        worse.left -= 1
        return (worse is on) if worse.left >= 0 else (better is on)

    def _smaller(self, rows: int) -> float | None:
        """What drafts brought at the next smaller number of rows known: tokens per second over those without."""
        for size in range(_size(rows) - 1, -1, -1):
            on, off = self._rates.get((size, True)), self._rates.get((size, False))
            if on and off and on.tries >= 3 and off.tries >= 3:
                return on.value / max(off.value, 1e-9)
        return None

    def _rate(self, rows: int, drafted: bool) -> Rate:
        return self._rates.setdefault((_size(rows), drafted), Rate())

    def observe(
        self, rows: int, drafted: bool, nodes: int, others: int, tokens: int, seconds: float, guessing: float
    ) -> None:
        """A pass: `rows` running rows brought `nodes` tokens, prompts `others`; it drew `tokens` (mutates).

        It took `seconds` in all, of these `guessing` for the guesses.
        """
        self.cost.observe(nodes + others, seconds - guessing)
        own = seconds - self.cost.token * others
        if rows and own > 0:
            self._rate(rows, drafted).observe(tokens, own, self.now)

    def level(self, name: str, contexts: int) -> float:
        """Seconds that a drafter takes for one level; 0 until it was measured."""
        size = _size(contexts)
        return next((self._levels[name, s] for s in range(size, size + 3) if (name, s) in self._levels), 0.0)

    def took(self, name: str, contexts: int, seconds: float) -> None:
        """A drafter guessed for so many contexts at once (mutates)."""
        key = name, _size(contexts)
        old = self._levels.get(key)
        self._levels[key] = seconds if old is None else old + 0.1 * (min(seconds, OUTLIER * old) - old)


def _size(count: int) -> int:
    """Classes of like size: 1, 2, 3-4, 5-8, 9-16, ..."""
    return (count - 1).bit_length()
