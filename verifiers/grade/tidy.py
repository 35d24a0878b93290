"""Rewrite an answer as written by people and models into plain LaTeX with the same meaning."""

from __future__ import annotations

import re

SYMBOLS = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*",
        "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "°": r"^\circ ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}", "²": "^2", "³": "^3", "％": "%", "，": ",", "（": "(", "）": ")", "：": ":",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2019": "'",
    }
)  # fmt: skip
WRAPPERS = [("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")]
LINE_BREAKS = re.compile(r"\\begin\s*\{(?:.?matrix|array|cases|align|aligned|gathered|split)\*?\}")
STYLE = re.compile(r"\\(?:displaystyle|textstyle|scriptstyle|limits|boldsymbol|mathstrut|left\.|right\.)(?![A-Za-z])")
SIZED = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|middle)(?![A-Za-z])\s*")
FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
ROMAN = re.compile(r"\\mathrm\s*\{\s*([eid])\s*\}")  # the constants e and i and the differential, set upright
THIN_SPACE = re.compile(r"(?<!\\)\\[!,;: ]|~|(?<!\\)\\(?=\d)")
THIN_GROUPS = re.compile(r"(?<=\d)(?:\{,\}|,?\\!\s*|\\[,;: ]\s*|~)(?=\d{3}(?!\d))")
SPACED_NUMBER = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
ENDING = re.compile(r"(?:\s|[.,;]|\\[!,;: ]|\\q?quad|(?<!\\)\\+$|\\\\)+$")


def tidy(answer: str) -> str:
    """The same answer without what has no meaning: delimiters, spacing commands, stray backslashes, final full stops.

    >>> tidy(r"$\\dfrac12\\,.$")
    '\\\\frac12'
    >>> tidy("185\\\\")
    '185'
    """
    answer = answer.translate(SYMBOLS).strip()
    answer = _single_backslashes(answer)
    before = None
    while answer != before:
        before = answer
        answer = ENDING.sub("", answer).strip()
        for left, right in WRAPPERS:
            inner = answer[len(left) : len(answer) - len(right)]
            if answer == f"{left}{inner}{right}" and left not in inner:
                answer = inner.strip()
    answer = STYLE.sub(" ", answer)
    answer = SIZED.sub("", answer)
    answer = FRACTION.sub(r"\\frac", answer)
    answer = ROMAN.sub(r"\1", answer)
    answer = THIN_GROUPS.sub("", answer)  # 12{,}345 and 12\,345 are one number; a plain comma may part a list
    # A backslash before a digit is no command: `\15` is 15. Before a space or , ; : ! it is only spacing.
    answer = THIN_SPACE.sub(lambda match: "" if match.group() in ("\\", r"\!") else " ", answer)
    answer = re.sub(r"\s+", " ", answer).strip()
    return answer.replace(" ", "") if SPACED_NUMBER.fullmatch(answer) else answer


def _single_backslashes(answer: str) -> str:
    """Undo one round of escaping: where every command has its backslash doubled, all of them have."""
    commands = re.findall(r"(\\+)(?:[A-Za-z]{2,}|[{}])", answer)
    if commands and all(len(slashes) % 2 == 0 for slashes in commands):
        undone = answer.replace("\\\\", "\\")
        # `x=1 \\y=2` inside an environment is a line break and a letter; `\\begin` itself can only be an escape.
        if not LINE_BREAKS.search(answer) or r"\\begin" in answer:
            return undone
    return answer
