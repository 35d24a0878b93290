"""Expressions of + - * / over whole numbers: a safe parser, exact values, and one form for expressions that agree.

Nothing is evaluated by Python's own parser; input beyond the limits below is refused before any arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

LONGEST = 400  # characters of an expression
DEEPEST = 60  # nested brackets and signs
MOST_DIGITS = 15  # of one number

TOKEN = re.compile(r"\s*(?:([0-9]+)|(\\frac|[-+*/(){}]))")
SPELLINGS = [
    (
        re.compile(
            r"\\(?:left|right|big|Big|bigl|bigr|Bigl|Bigr)(?![A-Za-z])|\\[,!;: ]|\\displaystyle(?![A-Za-z])|[$~]"
        ),
        " ",
    ),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])|[×·⋅∗]"), "*"),
    (re.compile(r"\\div(?![A-Za-z])|÷"), "/"),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\["), "("),
    (re.compile(r"\]"), ")"),
]


class ExpressionError(ValueError):
    """A text is no expression, or has no value; `str` says why in a few words."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A number, or an operation on two expressions.

    Attributes:
        value: exact.
        op: "" for a number, else one of + - * /.
        left, right: the operands; None for a number.
    """

    value: Fraction
    op: str = ""
    left: Expression | None = None
    right: Expression | None = None

    def operands(self) -> tuple[Expression, ...]:
        """The two operands; () for a number."""
        return (self.left, self.right) if self.left is not None and self.right is not None else ()

    def numbers(self) -> Iterator[int]:
        """Every number written, from left to right; a sign belongs to the operation, not to the number."""
        if not self.op:
            yield int(self.value)
        for operand in self.operands():
            yield from operand.numbers()

    def operations(self) -> int:
        """How many operations are left to carry out; a sign in front is not one of them."""
        own = 1 if self.left is not None and self.left is not NOTHING else 0
        return own + sum(operand.operations() for operand in self.operands())


NOTHING = Expression(Fraction(0), "none")  # the left side of a sign in front: -x is NOTHING - x


def combine(op: str, left: Expression, right: Expression) -> Expression:
    """`left op right`. Raises ExpressionError for a division by zero."""
    a, b = left.value, right.value
    if op == "/" and b == 0:
        raise ExpressionError("division by zero")
    value = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
    return Expression(value, op, left, right)


def parse(text: str) -> Expression:
    """Read an expression; plain or LaTeX (`\\frac`, `\\times`, `\\div`, `\\cdot`), with unary signs.

    A product may leave out its sign before a bracket: `(1+2)(3+4)`, `2(3+4)`. Raises ExpressionError.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"longer than {LONGEST} characters")
    for pattern, plain in SPELLINGS:
        text = pattern.sub(plain, text)
    return _Reader(_tokens(text)).whole()


def _tokens(text: str) -> list[str]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"unexpected {text[at:].strip()[:10]!r}")
        if match[1] and len(match[1]) > MOST_DIGITS:
            raise ExpressionError(f"a number of more than {MOST_DIGITS} digits")
        tokens.append(match[1] or match[2])
        at = match.end()
    if not tokens:
        raise ExpressionError("nothing there")
    return tokens


class _Reader:
    """Recursive descent: sum, product, signed, atom."""

    def __init__(self, tokens: list[str]):
        self._tokens, self._at, self._depth = tokens, 0, 0

    def whole(self) -> Expression:
        result = self._sum()
        if self._next():
            raise ExpressionError(f"unexpected {self._next()!r}")
        return result

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._at += 1
        return token

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ExpressionError(f"{token!r} expected before {self._next() or 'the end'!r}")
        self._at += 1

    def _sum(self) -> Expression:
        result = self._product()
        while self._next() in ("+", "-"):
            result = combine(self._take(), result, self._product())
        return result

    def _product(self) -> Expression:
        result = self._signed()
        while (token := self._next()) in ("*", "/", "(", "{", "\\frac"):
            if token in "*/":
                self._take()
                result = combine(token, result, self._signed())
            else:
                result = combine("*", result, self._atom())
        return result

    def _signed(self) -> Expression:
        if self._next() not in ("+", "-"):
            return self._atom()
        self._deeper()
        sign, operand = self._take(), self._signed()
        self._depth -= 1
        return operand if sign == "+" else Expression(-operand.value, "-", NOTHING, operand)

    def _atom(self) -> Expression:
        token = self._take()
        if token.isdigit():
            return Expression(Fraction(int(token)))
        self._deeper()
        if token == "\\frac":
            result = combine("/", self._group(), self._group())
        elif token in ("(", "{"):
            result = self._sum()
            self._expect(")" if token == "(" else "}")
        else:
            raise ExpressionError(f"a number expected instead of {token or 'the end'!r}")
        self._depth -= 1
        return result

    def _group(self) -> Expression:
        """An argument of \\frac: braces, or the next digit alone (`\\frac12` is one half)."""
        token = self._next()
        if token.isdigit() and len(token) > 1:
            self._tokens[self._at : self._at + 1] = [token[0], token[1:]]
        elif token != "{" and not token.isdigit():
            raise ExpressionError("\\frac without arguments")
        return self._atom()

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"nested deeper than {DEEPEST}")


def canonical(expression: Expression) -> str:
    """One text for all expressions that agree up to order, brackets and signs that the rules of + - * / make idle.

    Sums are flattened to their signed terms and products to their factors above and below the line, both sorted;
    a sum that is a factor turns its sign so that its first term is positive. `(13-9)*(10-4)`, `(4-10)*(9-13)` and
    `(10-4)(13-9)` agree; `3*8` and `4*6` do not, though their values do. Values are not looked at.
    """
    sign, text = _form(expression)
    return f"-{text}" if sign < 0 else text


def _form(expression: Expression) -> tuple[int, str]:
    """Sign and text of the form; the text starts with no sign. Sign 0: the opposite has the same form, as `1-1` has."""
    if not expression.op:
        return 1, str(int(expression.value))
    if expression.op in "+-":
        terms = list(_terms(expression, 1))
        if len(terms) == 1:
            return terms[0]
        # Of the sum and its opposite, the one that comes first in this order; it starts with a positive term.
        as_is, turned = (sorted((text, -turn * own) for own, text in terms) for turn in (1, -1))
        sign, ordered = (1, as_is) if as_is < turned else (-1, turned) if turned < as_is else (0, as_is)
        return sign, "(" + "".join(("-" if below > 0 else "+") + text for text, below in ordered)[1:] + ")"
    above: list[str] = []
    below: list[str] = []
    sign = 1
    for turn, power, factor in _factors(expression, 1):
        own, text = _form(factor)
        sign *= own * turn
        (above if power > 0 else below).append(text)
    text = "*".join(sorted(above) or ["1"]) + "".join(f"/{text}" for text in sorted(below))
    return sign, text


def _terms(expression: Expression, sign: int) -> Iterator[tuple[int, str]]:
    if expression.op and expression.op in "+-":
        left, right = expression.operands()
        if left is not NOTHING:
            yield from _terms(left, sign)
        yield from _terms(right, -sign if expression.op == "-" else sign)
    else:
        own, text = _form(expression)
        yield own * sign, text


def _factors(expression: Expression, power: int) -> Iterator[tuple[int, int, Expression]]:
    """Sign, power (1 or -1) and expression of each factor."""
    left, right = expression.operands() or (None, None)
    if left is None or right is None or (expression.op in "+-" and left is not NOTHING):
        yield 1, power, expression
    elif left is NOTHING:  # a sign in front goes to the first factor
        first, *rest = _factors(right, power)
        yield -first[0], first[1], first[2]
        yield from rest
    else:
        yield from _factors(left, power)
        yield from _factors(right, -power if expression.op == "/" else power)
