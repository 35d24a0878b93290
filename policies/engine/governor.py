"""What a draft costs and whether it pays: seconds by tokens in a forward, and tokens per second with and without.

The shape of a draft follows the model of cost (goodput: Liu et al. 2024, "Optimizing Speculative Decoding for Serving
LLMs Using Goodput"); whether there is one at all follows what was measured at that number of rows, so that an error of
the model cannot keep a draft alive that slows the engine down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

PAYS = 1.02  # a draft must bring this many times the tokens per second of none
AGAIN = (24, 160)  # passes after which the worse way is tried again: while it is unsettled, and when it is far behind


@dataclass(slots=True)
class Cost:
    """Seconds of a forward by its tokens, c0 + c1 * tokens: least squares with forgetting.

    Before much is known, a token is taken to add 2 % of the fixed cost.
    """

    _square: np.ndarray = field(default_factory=lambda: np.zeros((2, 2)))
    _cross: np.ndarray = field(default_factory=lambda: np.zeros(2))
    fixed: float = 0.0
    token: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """One forward (mutates). What takes four times as long as foreseen was disturbed and counts as that."""
        if self.fixed:
            seconds = min(seconds, 4 * (self.fixed + self.token * tokens))
        else:
            base = seconds / (1 + 0.02 * tokens)
            for size in (0, 50):  # a weak belief of the shape, which measurements replace
                self._add(size, base * (1 + 0.02 * size))
        self._square *= 0.99
        self._cross *= 0.99
        self._add(tokens, seconds)
        fixed, token = np.linalg.solve(self._square + 1e-9 * np.eye(2), self._cross)
        # a slope that noise has made negative would ask for endless drafts
        self.fixed, self.token = max(float(fixed), 1e-6), max(float(token), 1e-3 * float(fixed), 1e-9)

    def _add(self, tokens: int, seconds: float) -> None:
        row = np.array([1.0, tokens])
        self._square += np.outer(row, row)
        self._cross += row * seconds


@dataclass(slots=True)
class Rate:
    """Tokens and seconds of one way of working, the past forgotten slowly."""

    tokens: float = 0.0
    seconds: float = 0.0
    tries: int = 0
    last: int = 0  # the pass of the latest try

    def observe(self, tokens: float, seconds: float, now: int) -> None:
        """One pass (mutates)."""
        if self.tries > 4:
            seconds = min(seconds, 4 * tokens / self.value)
        self.tokens = 0.96 * self.tokens + tokens
        self.seconds = 0.96 * self.seconds + seconds
        self.tries, self.last = self.tries + 1, now

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
        on, off = self._rate(rows, True), self._rate(rows, False)
        if on.tries < 2 or off.tries < 2:
            return on.tries <= off.tries
        better, worse = (on, off) if on.value > PAYS * off.value else (off, on)
        loss = better.value / max(worse.value, 1e-9)
        again = AGAIN[0] + (AGAIN[1] - AGAIN[0]) * min(max(loss - 1, 0.0), 1.0)
        return (better is on) != (self.now - worse.last > again)

    def _rate(self, rows: int, drafted: bool) -> Rate:
        return self._rates.setdefault((_size(rows), drafted), Rate())

    def observe(self, rows: int, drafted: bool, nodes: int, others: int, tokens: int, seconds: float) -> None:
        """A pass: of `rows` running rows that brought `nodes` tokens, `others` prompt tokens; it drew `tokens`."""
        self.cost.observe(nodes + others, seconds)
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
        self._levels[key] = seconds if old is None else old + 0.1 * (min(seconds, 4 * old) - old)


def _size(count: int) -> int:
    """Classes of like size: 1, 2, 3-4, 5-8, 9-16, ..."""
    return (count - 1).bit_length()
