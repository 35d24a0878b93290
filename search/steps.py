"""Where a step ends: boundaries, as frozen values.

A step ends at the first token after which `ends(text, tokens)` is true for what the step holds so far. A token may
merge the end of one step with the start of the next; the text of the step then runs past its delimiter. Tokens are the
truth: nothing is cut off and nothing is tokenised again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from search.errors import ConfigError
from search.types import Boundary, WeighingBoundary

_SENTENCE = re.compile(r"[^\W\d_].*?(?:[.!?\u2026][)\]}\"'\u2019\u201d]*\s|\n)", re.DOTALL)


@dataclass(frozen=True)
class Delimiter:
    """A step ends with one of `strings` after some text that is not blank; blank text alone is not a step."""

    strings: tuple[str, ...] = ("\n\n",)

    def __post_init__(self) -> None:
        strings = (self.strings,) if isinstance(self.strings, str) else tuple(self.strings)
        if not strings or not all(strings):
            raise ConfigError("strings", self.strings, "give at least one delimiter, none of them empty")
        object.__setattr__(self, "strings", strings)

    def ends(self, text: str, tokens: int) -> bool:
        begin = len(text) - len(text.lstrip())  # the delimiter has to come after the first character that is not blank
        return any(text.find(string, begin + 1) >= 0 for string in self.strings)


@dataclass(frozen=True)
class Sentence:
    """A step ends after a sentence: stop, question or exclamation mark and white space, or a line end, after a letter.

    White space is asked for so that "3.5" is one number; a letter, so that "1. " begins a sentence. Abbreviations
    ("e.g. ") end one too: a boundary is cheap, and understanding the text is not its business.
    """

    def ends(self, text: str, tokens: int) -> bool:
        return _SENTENCE.search(text) is not None


@dataclass(frozen=True)
class Tokens:
    """A step is `count` tokens (at least 1)."""

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError("count", self.count, "give a number of at least 1")

    def ends(self, text: str, tokens: int) -> bool:
        return tokens >= self.count


@dataclass(frozen=True)
class Pattern:
    """A step ends where `regex` (Python syntax) is found in it; a regex that matches empty text is refused."""

    regex: str

    def __post_init__(self) -> None:
        try:
            empty = re.search(self.regex, "")
        except re.error as error:
            raise ConfigError("regex", self.regex, f"it is not a regular expression ({error})") from None
        if empty:
            raise ConfigError("regex", self.regex, "give one that does not match empty text")

    def ends(self, text: str, tokens: int) -> bool:
        return re.search(self.regex, text) is not None


@dataclass(frozen=True)
class Entropy:
    """A step ends where the model is unsure: the last `window` tokens cost `nats` each, in the mean, or more.

    What a token costs is -log of the probability it was drawn with; its expectation is the entropy of the
    distribution it was drawn from, so this is the entropy estimated from the draw itself. It needs no more than the
    log-probabilities of what is drawn, and these of the distribution sampled from: with a server that gives them at
    temperature 1, the estimate is of the model's own distribution. Greedy draws have none: the step never ends.

    Attributes:
        nats: above 0.
        window: tokens, at least 1.
        least: tokens in a step, at least `window`.
        most: tokens in a step, at least `least`; None for no limit but that of the draw.
    """

    nats: float = 2.0
    window: int = 1
    least: int = 16
    most: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.nats < math.inf:
            raise ConfigError("nats", self.nats, "give a number above 0")
        if self.window < 1:
            raise ConfigError("window", self.window, "give a number of at least 1")
        if self.least < self.window:
            raise ConfigError("least", self.least, f"give a number of at least window={self.window}")
        if self.most is not None and self.most < self.least:
            raise ConfigError("most", self.most, f"give a number of at least least={self.least}, or null")

    def ends(self, text: str, tokens: int) -> bool:
        raise ConfigError("until", self, "it needs the log-probabilities of what is drawn, which the policy lacks")

    def ends_by(self, text: str, logprobs: Sequence[float]) -> bool:
        if len(logprobs) < self.least:
            return False
        cost = -math.fsum(logprobs[-self.window :]) / self.window
        return cost >= self.nats or (self.most is not None and len(logprobs) >= self.most)


def ended(until: Boundary, text: str, logprobs: Sequence[float]) -> bool:
    """Whether `until` ends a step that holds `text`, one log-probability for each of its tokens; for policies."""
    return until.ends_by(text, logprobs) if isinstance(until, WeighingBoundary) else until.ends(text, len(logprobs))
