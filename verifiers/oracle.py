"""TEST DOUBLE: a verifier that knows the truth, blurred at will. Never report what a search does with it as a result.

It tells how a search would fare with a verifier of a given quality, and lets tests of searches run without a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

from search.errors import ConfigError
from search.ports import Verifier
from search.types import Cost, Finish, Prefix, Verdict, chain
from verifiers.grade import arithmetic, countdown
from verifiers.grade.expression import Expression
from verifiers.grade.steps import MOST_NUMBERS, StepError, move, reachable, rewrite, state

Sound = Callable[[str, bool], bool]  # whether the answer so far is sound; the flag says that it is complete


@dataclass(frozen=True)
class Oracle:
    """TEST DOUBLE, not a model: knows of every prefix whether it can still end in a right answer, and adds noise.

    For countdown, a prefix is sound when every step is valid and the target can still be reached; for arithmetic, when
    every step is valid; a complete answer, when it is right. The value is the probability of "sound" given a signal
    with Gaussian noise, so it is calibrated where sound and unsound prefixes are equally frequent. The noise is a
    function of seed and prefix: asking again changes nothing. Figures made with it say nothing about a verifier that
    does not know the answer.

    Attributes:
        separation: d', the distance of the signal's two means in standard deviations; its area under the ROC curve is
            Phi(d' / sqrt 2): 0 knows nothing, 1 gives 0.76, 2 gives 0.92, infinity (the default) tells the truth.
        seed: of the noise.
    """

    separation: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.separation >= 0:
            raise ConfigError("separation", self.separation, "give a number of at least 0")

    @property
    def fingerprint(self) -> str:
        return f"test double: {self!r}"

    def bind(self, item: Any) -> Verifier:
        """The verifier for one item. Raises ConfigError for an item of neither kind."""
        if (puzzle := countdown.puzzle(item)) is not None:
            numbers, target = puzzle
            if len(numbers) > MOST_NUMBERS:
                raise ConfigError("numbers", len(numbers), f"the oracle searches puzzles of at most {MOST_NUMBERS}")
            return _Oracle(self, lambda text, complete: sound_countdown(text, complete, numbers, target))
        if (expression := arithmetic.read_question(item.question)) is not None:
            return _Oracle(self, lambda text, complete: sound_arithmetic(text, complete, expression))
        raise ConfigError("item", item.id, "the oracle knows countdown and arithmetic only; choose another verifier")

    def value(self, sound: bool, digest: bytes) -> float:
        """The value, in [0, 1], of a prefix with this digest."""
        if math.isinf(self.separation):
            return float(sound)
        noise = blake2b(digest, key=self.seed.to_bytes(8, "big", signed=True), digest_size=8).digest()
        uniform = (int.from_bytes(noise, "big") + 0.5) / 2**64
        signal = (0.5 if sound else -0.5) * self.separation + NormalDist().inv_cdf(min(uniform, 1 - 2**-53))
        return 1 / (1 + math.exp(-self.separation * signal)) if self.separation * signal > -700 else 0.0


@dataclass(frozen=True)
class _Oracle:
    """`Oracle` for one item."""

    oracle: Oracle
    sound: Sound

    @property
    def fingerprint(self) -> str:
        return self.oracle.fingerprint

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return [self._verdict(prefix) for prefix in prefixes]

    def _verdict(self, prefix: Prefix) -> Verdict:
        prefix = prefix.judged
        digest, text, values = chain(b"", prefix.prompt), "", []
        for step in prefix.steps:
            digest, text = chain(digest, step), text + step.text
            complete = step.finish in (Finish.END, Finish.EMPTY)
            values.append(self.oracle.value(self.sound(text, complete), digest))
        value = values[-1] if values else self.oracle.value(self.sound("", False), digest)
        return Verdict(value, tuple(values), Cost(passes=1, read=len(prefix.tokens)))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def sound_countdown(text: str, complete: bool, numbers: Sequence[int], target: int) -> bool:
    """Whether every step is valid and the target still in reach, or the answer right."""
    if complete:
        return countdown.check_text(text, numbers, target).right
    left = state(numbers)
    for line in _lines(text):
        if "\\boxed" in line:
            return countdown.check_text(line, numbers, target).right
        try:
            left = move(line, left).state
        except StepError:
            return False
    return reachable(left, Fraction(target))


def sound_arithmetic(text: str, complete: bool, expression: Expression) -> bool:
    """Whether every step is valid, or the answer right."""
    if complete:
        return arithmetic.grade(text, expression.value).right
    rest = expression
    for line in _lines(text):
        if "\\boxed" in line:
            return arithmetic.grade(line, expression.value).right
        try:
            rest = rewrite(line, rest)
        except StepError:
            return False
    return True
