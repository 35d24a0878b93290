"""When an output or a value counts as the expected one: the rules of public judges.

Text is compared line by line, without the space around each line and around the whole. A line is right when its words
are: equal as text, equal as numbers ("1.50" is "1.5"), or, where the expected word is a decimal fraction, nearly equal;
a fraction of more digits than any float has is meant to the last of them.
Values are equal as Python's are, but lists and tuples are the same, and floats are nearly equal; nothing else is.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from search.errors import ConfigError

LONGEST_NUMBER = 400  # characters
MOST_DIGITS = 25  # of a fraction that is compared with tolerance


@dataclass(frozen=True, slots=True)
class Compare:
    """The rules.

    Attributes:
        tolerance: of decimal fractions, absolute or relative, whichever is larger; 0 for none.
        lines: whether the lines of a text must agree; False compares all words as one line.
    """

    tolerance: float = 1e-6
    lines: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1:
            raise ConfigError("tolerance", self.tolerance, "give a number in [0, 1)")

    def texts(self, expected: str, output: str) -> bool:
        """Whether an output is right."""
        one, two = self._words(expected), self._words(output)
        return len(one) == len(two) and all(map(self._line, one, two))

    def values(self, expected: Any, value: Any) -> bool:
        """Whether a returned value is right."""
        try:
            return self._same(expected, value)
        except RecursionError:
            return False

    def _words(self, text: str) -> list[list[str]]:
        return [line.split() for line in text.strip().split("\n")] if self.lines else [text.split()]

    def _line(self, one: list[str], two: list[str]) -> bool:
        return len(one) == len(two) and all(map(self._word, one, two))

    def _word(self, one: str, two: str) -> bool:
        if one == two:
            return True
        first, second = _number(one), _number(two)
        if first is None or second is None:
            return False
        if first == second:
            return True
        fraction = "." in one or "e" in one.lower()
        return fraction and len(first.as_tuple().digits) <= MOST_DIGITS and self._near(float(first), float(second))

    def _near(self, one: float, two: float) -> bool:
        return math.isclose(one, two, rel_tol=self.tolerance, abs_tol=self.tolerance)

    def _same(self, one: Any, two: Any) -> bool:
        if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
            return len(one) == len(two) and all(map(self._same, one, two))
        if isinstance(one, dict) and isinstance(two, dict):
            return len(one) == len(two) and all(key in two and self._same(item, two[key]) for key, item in one.items())
        if isinstance(one, (float, int)) and isinstance(two, (float, int)) and float in (type(one), type(two)):
            try:
                return self._near(float(one), float(two))
            except OverflowError:
                return False
        return bool(one == two) and not isinstance(two, deque)


def _number(word: str) -> Decimal | None:
    if len(word) > LONGEST_NUMBER or not word.isascii() or "_" in word:
        return None
    try:
        number = Decimal(word)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < LONGEST_NUMBER else None


def expected_value(output: Any) -> Any:
    """The value a test expects: JSON where it is a text that is JSON, else the thing itself."""
    if not isinstance(output, str):
        return output
    try:
        return json.loads(output)
    except (ValueError, RecursionError):
        return output


def arguments(given: Any) -> list[Any]:
    """The arguments a test gives: a list of them, or a text with one JSON value a line. Raises ValueError."""
    if isinstance(given, list):
        return given
    if isinstance(given, Mapping):
        raise ValueError("arguments are a list, or a text with one JSON value a line")
    if not isinstance(given, str):
        return [given]
    try:
        return [json.loads(line) for line in given.split("\n") if line.strip()]
    except RecursionError:
        raise ValueError("too deep") from None
