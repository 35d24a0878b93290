"""Answers that can be read without symbolic algebra: numbers with units, clock times, choice letters, words.

Each reader takes a tidy answer (see `verifiers.grade.tidy`) and returns its value, or None where the answer is
something else. `quick` compares two such answers at once, in this process and without a limit of time: every pattern
is linear and every number short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from verifiers.grade.units import ratio, unit_of, unwrap

LONGEST = 120  # characters of a number; longer answers are left to symbolic algebra and its limits
LARGEST_EXPONENT = 400

BRACED = re.compile(r"\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
PREFIX = re.compile(r"(?:([A-Za-z](?:_\{?\w+\}?)?|\\[A-Za-z]{2,})\s*(?:=|\\approx)\s*)?")
SIGNS = re.compile(r"(?P<sign>[-+]?)\s*(?:\\?\$|[€£¥])?\s*(?P<again>[-+]?)\s*")
MIXED = re.compile(r"(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
RATIO = re.compile(r"(\d+)\s*/\s*(\d+)(?![\d.])")
DECIMAL = re.compile(r"(?:[1-9]\d{0,2}(?:,\d{3})+(?!\d)|\d+)(\.\d*)?|(\.\d+)")
DECIMAL_COMMA = re.compile(r"([-+]?\d+),(\d+)")
SCIENTIFIC = re.compile(
    r"\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|(\d)(?!\d))|[eE]([-+]?\d+)(?![\d.])"
)
WRAPPED = re.compile(r"\{([^{}]*)\}|\(([^(),]*)\)|\\(?:text|textbf|mathbf|mathrm|mbox|bm)\s*\{([^{}]*)\}")
PERCENT = re.compile(r"\\?%|percent(?:age)?|pct", re.IGNORECASE)
CLOCK = re.compile(r"(\d{1,2})(?::(\d\d))?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
LETTERS = re.compile(r"\(?[A-J]\)?(?:\s*(?:,|;|and)\s*\(?[A-J]\)?)*")
WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number as an answer.

    Attributes:
        value: exactly what is written, the unit left out.
        exact: False for a decimal, which may stand for a number that it only approximates.
        percent: a percent sign follows; `value` is what stands before it.
        unit: the unit's words, "" for none.
        name: what it is the value of: x in `x = 5`, "" for nothing.
    """

    value: Fraction
    exact: bool = True
    percent: bool = False
    unit: str = ""
    name: str = ""


def number(answer: str) -> Number | None:
    """Read `1,234`, `073`, `-3/4`, `\\frac{3}{4}`, `1 1/2`, `2.5e-3`, `2.5 \\times 10^{-3}`, `x = 5`, `$3`, `10 weeks`.

    A mixed number needs a proper fraction: `2\\frac{3}{4}` is 11/4, `2\\frac{4}{3}` is not read here.
    """
    if len(answer) > LONGEST:
        return None
    plain = BRACED.sub(lambda match: f" {match[1] or match[2]}/{match[3] or match[4]}", answer).strip()
    while wrapped := WRAPPED.fullmatch(plain):
        plain = next(filter(None, wrapped.groups()), "").strip()
    prefix = PREFIX.match(plain)
    signs = SIGNS.match(plain, prefix.end() if prefix else 0)
    assert prefix is not None and signs is not None  # both match the empty string at least
    read = _magnitude(plain, signs.end())
    if read is None:
        return None
    value, exact, end = read
    rest = plain[end:]
    percent = PERCENT.fullmatch(unwrap(rest)) is not None
    unit = "" if percent or not rest.strip() else unit_of(rest)
    if unit is None:
        return None
    negative = (signs["sign"] == "-") != (signs["again"] == "-")
    return Number(-value if negative else value, exact, percent, unit, prefix[1] or "")


def _magnitude(plain: str, at: int) -> tuple[Fraction, bool, int] | None:
    """The unsigned number at `at`, whether it is exact, and where it ends."""
    if match := MIXED.match(plain, at):
        whole, top, bottom = map(int, match.groups())
        return (whole + Fraction(top, bottom), True, match.end()) if 0 < top < bottom else None
    if match := RATIO.match(plain, at):
        top, bottom = map(int, match.groups())
        return (Fraction(top, bottom), True, match.end()) if bottom else None
    if not (match := DECIMAL.match(plain, at)):
        return None
    value = Fraction(match.group().replace(",", "").rstrip(".") or "0")
    exact = not (match[1] or match[2])
    power = SCIENTIFIC.match(plain, match.end())
    if not power:
        return value, exact, match.end()
    exponent = int(power[1] or power[2] or power[3])
    if abs(exponent) > LARGEST_EXPONENT:
        return None
    return value * Fraction(10) ** exponent, exact, power.end()


def same_number(gold: Number, other: Number, precision: int = 6) -> bool:
    """Whether two numbers are the same answer.

    Percent signs and units are optional: 10 and 0.1 are both fine for 10 %. Two known units are converted, and
    different ones of one kind make different answers (5 m, 5 km). Where a decimal is involved, numbers are equal that
    differ by at most 10**-precision, or by a thousandth of the gold answer where that is less.
    """
    scale = ratio(other.unit, gold.unit) if gold.unit and other.unit else Fraction(1)
    value = other.value * (Fraction(1) if scale is None else scale)
    if scale == 0:
        return False
    pairs = [(gold.value, value)]
    if gold.percent != other.percent:
        pairs.append((gold.value / 100, value) if gold.percent else (gold.value, value / 100))
    if gold.exact and other.exact:
        return any(a == b for a, b in pairs)
    near = Fraction(1, 10**precision)
    return any(abs(a - b) <= near * min(Fraction(1), 1000 * abs(a)) for a, b in pairs)


def clock(answer: str) -> tuple[int, str] | None:
    """A clock time: minutes since twelve, and "a" (a.m.), "p" (p.m.) or "" (not said). Hours from 13 say p.m."""
    match = CLOCK.fullmatch(unwrap(answer).replace("o'clock", "").strip())
    if not match or not (match[2] or match[3]):
        return None
    hour, minute, half = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
    if hour > 23 or minute > 59 or (half and not 1 <= hour <= 12):
        return None
    return hour % 12 * 60 + minute, half or ("p" if hour > 12 else "")


def letters(answer: str) -> frozenset[str] | None:
    """Choices: `C`, `(C)`, `\\text{A, D}`, `A and D`; the order does not matter."""
    plain = unwrap(answer)
    return frozenset(re.findall(r"[A-J]", plain)) if LETTERS.fullmatch(plain) else None


def words(answer: str) -> str | None:
    """An answer in words, of at least two letters, without spaces and case."""
    plain = unwrap(answer)
    return re.sub(r"[^a-z]", "", plain.lower()) if WORDS.fullmatch(plain) else None


def key(answer: str) -> str:
    """The answer without spaces that part nothing (`1 1/2` is not `11/2`); equal keys mean equal answers."""
    return re.sub(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])", "", answer)


def _with_point(answer: str) -> str:
    """A number that may have a decimal comma, with a decimal point; any other answer as it is."""
    match = DECIMAL_COMMA.fullmatch(answer)
    return f"{match[1]}.{match[2]}" if match else answer


def quick(gold: str, other: str, precision: int = 6) -> bool | None:
    """Whether two tidy answers are the same; None where that takes symbolic algebra."""
    if key(gold) == key(other):
        return True
    one, two = number(gold), number(other)
    if one and two and (one.name == two.name or not one.name or not two.name):
        return same_number(one, two, precision)
    if _with_point(gold) == _with_point(other):  # 1,25 is a list, unless the other side writes it as 1.25
        return True
    time, other_time = clock(gold), clock(other)
    if time is not None and other_time is not None:
        (minutes, half), (other_minutes, other_half) = time, other_time
        if minutes == other_minutes and (half == other_half or not half or not other_half):
            return True
        return False if half or other_half else None  # without a.m. or p.m. these may be ratios: 2:10 and 4:20
    if (a := letters(gold)) is not None and (b := letters(other)) is not None:
        return a == b
    return True if words(gold) is not None and words(gold) == words(other) else None
