"""Where a step ends: boundaries, as frozen values.

A step ends at the first token after which `ends(text, tokens)` is true for what the step holds so far. A token may
merge the end of one step with the start of the next; the text of the step then runs past its delimiter. Tokens are the
truth: nothing is cut off and nothing is tokenised again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from search.errors import ConfigError

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
