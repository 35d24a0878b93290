"""Other spellings of a pair of answers, tried where symbolic algebra misses an equality because of how it reads LaTeX.

A repair rewrites text by a rule of notation and never looks at whether the answers agree: it yields the pair in
another spelling with the same meaning, or nothing where its notation does not occur.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

Pair = tuple[str, str]

IMAGINARY = re.compile(r"(?<![A-Za-z\\_])(?<!_\{)i(?![A-Za-z])(?!\s*=)")  # not an index
TRIGONOMETRIC = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
DEGREES = re.compile(r"(\d+(?:\.\d+)?|[A-Za-z]|\\[a-z]+|\))\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))")
BRACE_SET = re.compile(r"\\\{(.*)\\\}", re.DOTALL)
OPENING, CLOSING = "([{", ")]}"


def split(text: str, separators: str = ",;") -> list[str]:
    """The parts of a text between separators outside all brackets (`(1, 2], 3` has two)."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in OPENING) - (char in CLOSING)
        if depth == 0 and char in separators:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def brackets(text: str) -> tuple[str, str, str]:
    """Opening bracket, content and closing bracket of a text that one pair of brackets encloses; else "", text, ""."""
    opening = "\\{" if text.startswith("\\{") else text[:1]
    closing = "\\}" if text.endswith("\\}") else text[-1:]
    inner = text[len(opening) : len(text) - len(closing)]
    if opening not in ("(", "[", "\\{") or closing not in (")", "]", "\\}") or len(text) < len(opening + closing):
        return "", text, ""
    depth = 0
    for char in inner:
        depth += (char in OPENING) - (char in CLOSING)
        if depth < 0:  # `(1,2),(3,4)`: the first bracket closes before the end
            return "", text, ""
    return opening, inner.strip(), closing


def alone(text: str) -> str:
    """The text with each imaginary unit standing alone: inside `2i` it would be read as a real variable."""
    return IMAGINARY.sub(" i ", text)


def degrees(gold: str, other: str) -> Iterator[Pair]:
    """Degrees inside trigonometric functions are part of a number, not a unit to be dropped: 90 degrees is pi/2."""
    if any(DEGREES.search(text) and TRIGONOMETRIC.search(text) for text in (gold, other)):
        yield DEGREES.sub(r"\1 \\cdot \\frac{\\pi}{180}", gold), DEGREES.sub(r"\1 \\cdot \\frac{\\pi}{180}", other)


def _components(text: str) -> str:
    sides = split(text, "=")
    if len(sides) == 2:
        (left_open, left, _), (right_open, right, _) = brackets(sides[0]), brackets(sides[1])
        names, values = split(left), split(right)
        if left_open == right_open == "(" and len(names) == len(values) > 1:
            return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
    return text


def components(gold: str, other: str) -> Pair:
    """An equation of tuples as one equation per component, where the other side has those: `(x, y) = (1, 2)` against
    `x=1, y=2`. Left as it is, only the values would be compared, in any order.
    """
    pair = _components(gold), _components(other)
    named = all(len(split(part, "=")) == 2 for side in pair for part in split(side))
    return pair if named else (gold, other)


def _members(text: str) -> str | None:
    """The members of two or more sets side by side, as one list; None where the text is something else."""
    sets = [BRACE_SET.fullmatch(part) for part in split(text)]
    return ", ".join(found[1] for found in sets if found) if len(sets) > 1 and all(sets) else None


def members(gold: str, other: str) -> Iterator[Pair]:
    """Sets side by side against a plain list of all their members."""
    one, two = _members(gold), _members(other)
    if one is not None and two is None and BRACE_SET.search(other) is None:
        yield one, other
    elif two is not None and one is None and BRACE_SET.search(gold) is None:
        yield gold, two


REPAIRS: tuple[Callable[[str, str], Iterator[Pair]], ...] = (degrees, members)


def elements(gold: str, other: str) -> list[Pair] | None:
    """The pairs of elements of two tuples, lists or intervals of one form and length, in order; else None."""
    (opening, one, closing), (opening_too, two, closing_too) = brackets(gold), brackets(other)
    pairs = list(zip(split(one), split(two), strict=False))
    if (opening, closing) != (opening_too, closing_too) or len(split(one)) != len(split(two)) or len(pairs) < 2:
        return None
    return pairs
