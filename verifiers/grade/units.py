"""Units behind a number: telling them from the rest of a formula, and converting the common ones."""

from __future__ import annotations

import re
from fractions import Fraction

TEXT = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|textit|textrm|mbox|operatorname)\s*\{([^{}]*)\}|\{?\\(?:rm|bf)(?![A-Za-z])\s*"
)
DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?")
WORDS = re.compile(r"[A-Za-z.'µ]+(?:\s*\^\s*\{?-?\d\}?)?(?:(?:\s*[/-]\s*|\s+)[A-Za-z.'µ]+(?:\s*\^\s*\{?-?\d\}?)?){0,5}")
_OTHER_WORDS = (
    "and or to of is are in on than mod times plus minus over by choose base factorial squared cubed "
    "dozen hundred thousand million billion trillion hundreds thousands millions billions k bn "
    "pi sin cos tan cot sec csc log ln exp sqrt frac infty infinity inf e i "
    "percent percentage pct th st nd rd am pm a.m p.m a.m. p.m. noon if for when where but not all"
)
NOT_UNITS = frozenset(_OTHER_WORDS.split())

_MORE_UNITS = "hr mph kph rad deg degree radian unit square cubic sq per hz kw kwh mol ohm gal cc rs month year"
TRAILING_TEXT = re.compile(
    r"(.*?)(\s*\\(?:text|mathrm|textbf|mathbf|textit|textrm|mbox)\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?)", re.DOTALL
)
TRAILING_WORDS = re.compile(
    r"(.*?)((?:\s+|(?<=[\d})]))[A-Za-z.]{2,}(?:[\s/][A-Za-z.]+)*(?:\s*\^\s*\{?\d\}?)?)", re.DOTALL
)
MEASURED = re.compile(r"(?:[\d)}\]]|\\[A-Za-z]+)\s*$")

_DIMENSIONS = {
    "length": [
        (Fraction(1, 1000), "mm millimeter millimetre"),
        (Fraction(1, 100), "cm centimeter centimetre"),
        (Fraction(1), "m meter metre"),
        (Fraction(1000), "km kilometer kilometre"),
        (Fraction(254, 10000), "inch inche"),
        (Fraction(3048, 10000), "ft foot feet"),
        (Fraction(9144, 10000), "yd yard"),
        (Fraction(1609344, 1000), "mi mile"),
    ],
    "time": [
        (Fraction(1), "s sec second"),
        (Fraction(60), "min minute"),
        (Fraction(3600), "h hr hour"),
        (Fraction(86400), "day"),
        (Fraction(604800), "week"),
    ],
    "mass": [
        (Fraction(1, 1000), "mg milligram"),
        (Fraction(1), "g gram"),
        (Fraction(1000), "kg kilogram"),
        (Fraction(45359237, 100000), "lb pound"),
        (Fraction(45359237, 1600000), "oz ounce"),
    ],
    "volume": [
        (Fraction(1, 1000), "ml milliliter millilitre"),
        (Fraction(1), "l liter litre"),
    ],
    "money": [(Fraction(1, 100), "cent"), (Fraction(1), "dollar usd")],
}
UNITS = {
    name: (dimension, factor)
    for dimension, entries in _DIMENSIONS.items()
    for factor, names in entries
    for name in names.split()
}

KNOWN = frozenset(name for name in UNITS if len(name) > 1) | frozenset(_MORE_UNITS.split())


def unwrap(answer: str) -> str:
    """The answer with `\\text{...}` and its like replaced by what they hold."""
    return re.sub(r"\s+", " ", TEXT.sub(lambda match: f" {match[1] or ''} ", answer)).strip()


def unit_of(rest: str) -> str | None:
    """The unit that `rest`, what follows a number, consists of; None if it is something else.

    Inside `\\text{}` any words are a unit. Outside, letters may be a product of variables (`2ab`), so a word counts
    only if it is a known unit, or has four letters or more and stands apart (`10 weeks`, `5 apples`, also `5 m`).
    """
    if DEGREE.fullmatch(rest.strip()):
        return "degree"
    words = DEGREE.sub(" degree ", unwrap(rest)).strip(" ()")
    if not WORDS.fullmatch(words):
        return None
    names = [name.lower() for name in re.split(r"[\s/-]+|\^\s*\{?-?\d\}?", words) if name]
    if any(name in NOT_UNITS for name in names):
        return None
    if TEXT.search(rest) is None and not all(
        _singular(name) in KNOWN or ((len(name) > 3 or name in UNITS) and (at > 0 or rest[:1] == " "))
        for at, name in enumerate(names)
    ):
        return None
    return _singular(words)


def without_unit(answer: str) -> str:
    """A formula without the unit behind it: `2\\pi \\text{ cm}^2` as `2\\pi`, `6\\sqrt{2} feet` as `6\\sqrt{2}`.

    A unit follows a number, a command or a closing bracket; `n \\text{ even}` stays whole.
    """
    if match := TRAILING_TEXT.fullmatch(answer) or TRAILING_WORDS.fullmatch(answer):
        formula, unit = match.groups()
        if MEASURED.search(formula) and unit_of(unit) is not None:
            return formula.strip()
    return answer


def _singular(words: str) -> str:
    words = words.lower().strip(" .")
    return words[:-1] if len(words) > 3 and words.endswith("s") and " " not in words else words


def ratio(one: str, other: str) -> Fraction | None:
    """How many of the unit `other` make one of the unit `one`.

    0 where both are known and measure different things; None where either is unknown, and says nothing then.
    """
    if one == other:
        return Fraction(1)
    if one not in UNITS or other not in UNITS:
        return None
    (dimension, factor), (other_dimension, other_factor) = UNITS[one], UNITS[other]
    return factor / other_factor if dimension == other_dimension else Fraction(0)
