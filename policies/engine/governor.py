"""What a draft costs and whether it pays: seconds by tokens in a forward, and tokens per second with and without.

The shape of a draft follows the model of cost (goodput: Liu et al. 2024, "Optimizing Speculative Decoding for Serving
LLMs Using Goodput"); whether there is one at all follows what was measured at that number of rows, so that an error of
the model cannot keep a draft alive that slows the engine down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.engine.growth import DEPTH

PAYS = 1.05  # a draft must bring this many times the tokens per second of none
HOPE = 1.1  # what drafts must bring at fewer rows to be tried at more
HOPED = 0.9  # of guesses are right, at best: where even that would not pay, none are tried
ENOUGH = 5  # passes after which a way of working is known
SETTLING = 2  # passes after a change of ways that are slower for it and do not count
BURST = 6  # passes of a trial
COLD = 4  # forwards at the start that say nothing about the next
OUTLIER = 2.0  # what takes so many times as long as expected was disturbed, and counts as that
SHAPE = 0.02
GLANCE = 8  # of so many passes without a draft one is looked at; even keeping accounts has its price
REST = 64  # passes at a number of rows at which guesses are hopeless, until that is looked at again
AGAIN = (512, 1 << 15)  # passes after which drafts that did not pay are tried again, at first and at most
DOUBT = (64, 1 << 12)  # the same of no drafts where drafts pay: a trial is cheap, and a first impression may be wrong
STALE = 0.2  # what is left of old experience when a trial begins: the two ways are compared as they are now


@dataclass(slots=True)
class Cost:
    """Seconds of a forward by its tokens, c0 + c1 * tokens: least squares with forgetting.

    A weak belief that a token adds `shape` of the fixed cost stands in where all forwards are of one size.
    """

    fixed: float = 0.0
    token: float = 0.0
    shape: float = SHAPE
    _cold: int = COLD
    _sums: tuple[float, float, float, float, float] = (0.0,) * 5  # of weights, n, n n, t, n t

    def begin(self, measured: Sequence[tuple[int, float]]) -> None:
        """Forwards of several sizes, (tokens, seconds), tried before any other (mutates)."""
        self._cold = 0
        for tokens, seconds in measured:
            self._learn(tokens, seconds)
        if len(measured) > 1:
            self.shape = self.token / self.fixed

    def observe(self, tokens: int, seconds: float) -> None:
        """One forward (mutates)."""
        if self._cold:
            self._cold -= 1
            return
        if self.fixed:
            seconds = min(seconds, OUTLIER * (self.fixed + self.token * tokens))
        self._learn(tokens, seconds)

    def _learn(self, tokens: int, seconds: float) -> None:
        base = self.fixed or seconds / (1 + self.shape * tokens)
        w, n, nn, t, nt = (0.98 * total for total in self._sums)
        believed = ((0.02, 0, base), (0.02, 50, base * (1 + self.shape * 50)))
        for weight, size, took in ((1.0, tokens, seconds), *believed):
            w, n, nn = w + weight, n + weight * size, nn + weight * size * size
            t, nt = t + weight * took, nt + weight * size * took
        self._sums = w, n, nn, t, nt
        token = (w * nt - n * t) / (w * nn - n * n)
        self.fixed = max((t - token * n) / w, 0.05 * seconds)
        self.token = max(token, 0.002 * self.fixed)  # a slope that noise made negative would ask for endless drafts


@dataclass(slots=True)
class Rate:
    """Tokens and seconds of one way of working, the past forgotten slowly."""

    tokens: float = 0.0
    seconds: float = 0.0
    tries: int = 0
    streak: int = 0  # passes in a row
    last: int = 0  # the pass of the latest try
    left: int = 0  # passes of a trial still to come
    patience: int = 0  # passes until the next trial; four times as many after each in vain

    def observe(self, tokens: float, seconds: float, now: int) -> None:
        """One pass (mutates)."""
        self.streak = self.streak + 1 if now == self.last + 1 else 1
        self.last = now
        if self.streak <= SETTLING:
            return
        self.tries += 1
        if self.tries > 3:  # far less strict than for forwards: a row that begins is dear to a draft model, and real
            seconds = min(seconds, 8 * tokens / self.value)
        self.tokens = 0.96 * self.tokens + tokens
        self.seconds = 0.96 * self.seconds + seconds

    def fade(self) -> None:
        """What was seen long ago counts little beside what comes (mutates)."""
        self.tokens, self.seconds = STALE * self.tokens, STALE * self.seconds

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
        trial: whether this pass is one to learn from: prices, which may be out of date, do not count.
        deepest: guesses after one another in this pass, at most.
        guess: seconds that guessers take for one level at least: in any case, and for each row.
        watching: whether this pass is one to keep accounts of.
    """

    forced: bool = False
    cost: Cost = field(default_factory=Cost)
    trial: bool = False
    deepest: int = DEPTH
    now: int = 0
    guess: tuple[float, float] = (0.0, 0.0)
    watching: bool = True
    _resting: dict[int, int] = field(default_factory=dict)  # by rows: the pass until which guesses are hopeless
    _rates: dict[tuple[int, bool], Rate] = field(default_factory=dict)
    _levels: dict[tuple[str, int], float] = field(default_factory=dict)

    def wanted(self, rows: int) -> bool:
        """Whether this pass, of so many running rows, should have a draft (mutates the count of passes)."""
        self.now, self.trial, self.watching = self.now + 1, False, True
        if self.forced:
            return True
        if not self.cost.fixed:
            return False
        on, off = self._rate(rows, True), self._rate(rows, False)
        if on.tries < 1 and self.hopeless(rows):
            return False
        if off.tries >= ENOUGH and on.tries < 1 and (smaller := self._smaller(rows)) is not None and smaller < HOPE:
            return False  # it pays less the more rows there are
        if on.tries < ENOUGH or off.tries < ENOUGH:
            self.trial = True
            return off.tries >= ENOUGH  # one after the other, so that both settle
        better, worse = (on, off) if on.value > PAYS * off.value else (off, on)
        first, most = DOUBT if worse is off else AGAIN
        better.patience, worse.patience = 0, worse.patience or first
        if self.now - worse.last > worse.patience:
            worse.left, worse.patience = BURST, min(4 * worse.patience, most)
            worse.fade()
        worse.left -= 1
        self.trial = worse.left >= 0
        if better is off and not self.trial and self.now % GLANCE and off.last == self.now - 1:
            off.streak, off.last, self.watching = off.streak + 1, self.now, False
        return (worse if self.trial else better) is on

    def hopeless(self, rows: int) -> bool:
        """Whether even chains of guesses that are right in `HOPED` of the cases would not pay (mutates)."""
        if self.now < self._resting.get(rows, 0):
            self.watching = False
            return True
        fixed, token, level = self.cost.fixed, self.cost.token, self.guess[0] + self.guess[1] * rows
        drawn, best, right = 1.0, 0.0, 1.0
        for depth in range(1, DEPTH + 1):
            right *= HOPED
            drawn += right
            best = max(best, drawn / (fixed + level * depth + token * rows * (1 + depth)))
        if best * (fixed + token * rows) > PAYS:
            return False
        self._resting[rows] = self.now + REST
        return True

    def _smaller(self, rows: int) -> float | None:
        """Tokens per second with drafts over those without, at the next smaller number of rows that is known."""
        for size in range(size_class(rows) - 1, -1, -1):
            on, off = self._rates.get((size, True)), self._rates.get((size, False))
            if on and off and on.tries >= ENOUGH and off.tries >= ENOUGH:
                return on.value / max(off.value, 1e-9)
        return None

    def _rate(self, rows: int, drafted: bool) -> Rate:
        return self._rates.setdefault((size_class(rows), drafted), Rate())

    def observe(
        self, rows: int, drafted: bool, nodes: int, others: int, tokens: int, seconds: float, guessing: float
    ) -> None:
        """A pass: `rows` running rows brought `nodes` tokens, prompts `others`; it drew `tokens` (mutates).

        It took `seconds` in all, of these `guessing` for the guesses.
        """
        if not self.watching:
            return
        rate = self._rate(rows, drafted)
        self.cost.observe(nodes + others, seconds - guessing)
        own = seconds - self.cost.token * others
        if rows and own > 0:
            rate.observe(tokens, own, self.now)

    def level(self, name: str, contexts: int) -> float:
        """Seconds that a drafter takes for one level; 0 until it was measured, and in a trial."""
        if self.trial:
            return 0.0
        size = size_class(contexts)
        return next((self._levels[name, s] for s in range(size, size + 3) if (name, s) in self._levels), 0.0)

    def took(self, name: str, contexts: int, seconds: float) -> None:
        """A drafter guessed for so many contexts at once (mutates)."""
        key = name, size_class(contexts)
        old = self._levels.get(key)
        # the first of all is cold
        self._levels[key] = seconds if not old else old + 0.1 * (min(seconds, OUTLIER * old) - old)
        if old is None:
            self._levels[key] = 0.0


def size_class(count: int) -> int:
    """Classes of like size: 1, 2, 3-4, 5-8, 9-16, ..."""
    return (count - 1).bit_length()
