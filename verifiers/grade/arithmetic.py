"""Arithmetic: the exact value of a question `Compute 24+(34*6-18).` and the comparison of answers with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from verifiers.grade import Grade, mark
from verifiers.grade.expression import Expression, ExpressionError, parse
from verifiers.grade.extract import extract
from verifiers.grade.forms import number
from verifiers.grade.tidy import tidy

QUESTION = re.compile(r"\s*(?:Compute|Calculate|Evaluate|What is)\s+(.+?)\s*[.?]?\s*", re.IGNORECASE | re.DOTALL)


def read_question(question: str) -> Expression | None:
    """The expression a question asks for; None for any other question."""
    match = QUESTION.fullmatch(question)
    try:
        return parse(match[1]) if match else None
    except ExpressionError:
        return None


def find(text: str) -> str | None:
    """The answer in a completion, as written; None where none is marked as the answer."""
    found = extract(text)
    return found.text if found else None


def value(answer: str) -> Fraction | None:
    """The exact value of an answer that is a whole number, a fraction or a decimal; None for anything else.

    An expression that still has to be computed is no answer: `5*42` gives None, `-7/2` a value.
    """
    read = number(tidy(answer))
    return None if read is None or read.percent or read.unit else read.value


def grade(text: str, gold: str | int | Fraction) -> Grade:
    """Compare the answer in a completion with the exact gold answer; exactly, so 0.333 is not 1/3.

    Raises ValueError for a gold answer that is no number.
    """
    exact = Fraction(gold) if isinstance(gold, (int, Fraction)) else value(gold)
    if exact is None:
        raise ValueError(f"gold={gold!r} is not a number")
    answer = find(text)
    got = value(answer) if answer is not None else None
    if got is None:
        return Grade("unparsable", answer, reason="no number in the text" if answer is None else "not a number")
    return Grade(mark(got == exact), answer)


def classes(texts: Sequence[str]) -> list[int | None]:
    """Equality classes for votes, by exact value; None where there is no number."""
    labels: dict[Fraction, int] = {}
    values = [value(answer) if (answer := find(text)) is not None else None for text in texts]
    return [None if got is None else labels.setdefault(got, len(labels)) for got in values]
