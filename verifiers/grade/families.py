"""Solutions of trigonometric equations: families `a + b k` with a period that is a multiple of pi."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import sympy

from verifiers.grade.repairs import split

INTEGER = re.compile(
    r"(?:[,;(]|\\q?quad|\\text\s*\{[^{}]*\}|for|where|\s)*[kmnl]\s*\\in\s*(?:\\mathbb|\\mathbf)?\s*\{?\s*Z\s*\}?[\s)]*$"
)
ASSIGNED = re.compile(r"^\s*[A-Za-z](?:_\{?\w+\}?)?\s*=\s*")
LARGEST = 10_000  # members of all families within one common period

Family = tuple[Fraction, Fraction]  # offset and period, in units of pi; the period is positive


def same_families(gold: str, other: str, read: Callable[[str], Any]) -> bool:
    """Whether two lists of families `a + b k`, k any integer, hold the same numbers.

    Only for families with one integer parameter, an offset that is a rational multiple of pi and a period that is
    one too; every other answer gives False. `read` parses LaTeX to an expression, or gives None.
    """
    one, two = _families(gold, read), _families(other, read)
    if not one or not two:
        return False
    scale = math.lcm(*(number.denominator for family in one + two for number in family))
    period = math.lcm(*(int(family[1] * scale) for family in one + two))
    if sum(period // int(step * scale) for _, step in one + two) > LARGEST:
        return False
    return _residues(one, scale, period) == _residues(two, scale, period)


def _residues(families: list[Family], scale: int, period: int) -> set[int]:
    """The members of all families in [0, period), in units of pi / scale."""
    return {
        int(offset * scale + turn * step * scale) % period
        for offset, step in families
        for turn in range(period // int(step * scale))
    }


def _families(answer: str, read: Callable[[str], Any]) -> list[Family] | None:
    families: list[Family] = []
    for item in split(INTEGER.sub("", answer)):
        item = ASSIGNED.sub("", item)
        for sign in "+-" if "\\pm" in item else "+":
            family = _family(read(item.replace("\\pm", sign)))
            if family is None:
                return None
            families.append(family)
    return families


def _family(expression: Any) -> Family | None:
    if not isinstance(expression, sympy.Expr) or len(expression.free_symbols) != 1:
        return None
    (parameter,) = expression.free_symbols
    expanded = sympy.expand(expression.doit() / sympy.pi)
    step, offset = expanded.coeff(parameter, 1), expanded.coeff(parameter, 0)
    if sympy.expand(step * parameter + offset - expanded) != 0 or not (step.is_Rational and offset.is_Rational):
        return None
    if step == 0 or str(parameter) not in ("k", "m", "n", "l"):
        return None
    return Fraction(int(offset.p), int(offset.q)), abs(Fraction(int(step.p), int(step.q)))
