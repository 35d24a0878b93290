"""How deep to guess, learnt from what each depth brought: no model of costs, only tokens per second as they were seen.

BanditSpec (Hou et al. 2025) takes configurations of a drafter for the arms of a bandit and pulls by upper confidence
bounds (UCBSpec). Here an arm is a depth, 0 among them, a reward is tokens per second and not accepted tokens (a deep
draft is accepted most and still may not pay), and what was seen fades, since searches change. Tokens per second rise
with the depth and then fall, so only the best arm's neighbours are worth a pull (Combes and Proutiere 2014, "Unimodal
Bandits"): a depth that would slow everything down is hardly ever tried. Each number of rows has a bandit of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from policies.engine.governor import OUTLIER, Governor, size_class
from policies.engine.growth import DEPTH

ARMS = (0, 1, 2, 3, 4, 6, 8, DEPTH)
FADE = 0.995  # of what was seen, per pass
EAGER = 0.01  # how wide the confidence bounds are
BURST = 4  # passes of a pull; the first after a change of depth does not count, for a draft model has to catch up
KNOWN = 3.0  # passes that say something


@dataclass(slots=True)
class Arm:
    """What a depth brought: tokens, seconds and passes, the past fading."""

    tokens: float = 0.0
    seconds: float = 0.0
    passes: float = 0.0

    @property
    def value(self) -> float:
        """Tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(slots=True)
class Arms:
    """The bandit of one class of numbers of rows; `best` and `pulled` are indices into `ARMS`."""

    arms: list[Arm] = field(default_factory=lambda: [Arm() for _ in ARMS])
    best: int = 0
    pulled: int = 0
    left: int = BURST  # passes of the pull still to come
    fresh: bool = True  # the pull's first pass is to come

    def choose(self) -> int:
        """The depth of the next pass (mutates)."""
        if self.left <= 0:
            near = range(max(self.best - 1, 0), min(self.best + 2, len(ARMS)))
            if self.arms[self.best].passes >= KNOWN:
                self.best = max(near, key=lambda i: self.arms[i].value if self.arms[i].passes >= KNOWN else 0.0)
                near = range(max(self.best - 1, 0), min(self.best + 2, len(ARMS)))
            pull = max(near, key=self._bound)
            self.fresh, self.pulled, self.left = pull != self.pulled, pull, BURST
        self.left -= 1
        return ARMS[self.pulled]

    def _bound(self, i: int) -> float:
        """The upper confidence bound of an arm; of one that is hardly known, infinite."""
        arm, scale = self.arms[i], self.arms[self.best].value
        if arm.passes < 1:
            return math.inf
        total = sum(arm.passes for arm in self.arms)
        return arm.value + scale * math.sqrt(EAGER * math.log(1 + total) / arm.passes)

    def observe(self, tokens: float, seconds: float) -> None:
        """What the pass brought (mutates)."""
        if self.fresh:
            self.fresh = False
            return
        for arm in self.arms:
            arm.tokens, arm.seconds, arm.passes = FADE * arm.tokens, FADE * arm.seconds, FADE * arm.passes
        arm = self.arms[self.pulled]
        if arm.passes >= KNOWN:
            seconds = min(seconds, 2 * OUTLIER * tokens / arm.value)
        arm.tokens, arm.seconds, arm.passes = arm.tokens + tokens, arm.seconds + seconds, arm.passes + 1


@dataclass(slots=True)
class Bandit(Governor):
    """Decides how deep to guess by what depths brought; what a guess costs is still the model's to say."""

    _bandits: dict[int, Arms] = field(default_factory=dict)

    def wanted(self, rows: int) -> bool:
        """As the governor; sets `deepest` (mutates)."""
        self.now, self.watching = self.now + 1, True
        if not self.cost.fixed:
            return self.forced
        if size_class(rows) not in self._bandits and self.hopeless(rows):
            return False
        self.deepest = self._bandits.setdefault(size_class(rows), Arms()).choose()
        self.trial = self.deepest > 0  # how deep is decided: prices do not count
        return self.deepest > 0

    def observe(
        self, rows: int, drafted: bool, nodes: int, others: int, tokens: int, seconds: float, guessing: float
    ) -> None:
        """As the governor (mutates)."""
        self.cost.observe(nodes + others, seconds - guessing)
        own = seconds - self.cost.token * others
        if (bandit := self._bandits.get(size_class(rows))) and rows and own > 0 and tokens:
            bandit.observe(tokens, own)
