"""The program in a completion, and what makes two programs the same answer."""

from __future__ import annotations

import ast
import re

FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*$", re.MULTILINE)
PYTHON = ("", "python", "python3", "py", "py3", "pypy3", "pypy")
LONGEST = 200_000  # characters of a program


def extract(completion: str) -> str | None:
    """The last fenced block of Python, up to the end where its fence is not closed; without any fence, the whole text.

    None where that is empty, or longer than a program is.

    >>> extract("So:\\n```python\\nprint(1)\\n```\\nDone.")
    'print(1)'
    """
    blocks: list[str] = []
    fenced, place = False, 0
    while (opening := FENCE.search(completion, place)) is not None:
        fenced = True
        closing = re.compile(rf"^[ \t]*{re.escape(opening[1])}[ \t]*$", re.MULTILINE).search(completion, opening.end())
        inside = completion[opening.end() : closing.start() if closing else len(completion)]
        if opening[2].lower() in PYTHON:
            blocks.append(inside)
        if closing is None:
            break
        place = closing.end()
    code = (blocks[-1] if blocks else "") if fenced else completion
    code = code.strip("\n").rstrip()
    return code if code.strip() and len(code) <= LONGEST else None


def same(code: str) -> str:
    """One text for programs that differ in comments, spaces and brackets only."""
    try:
        return ast.unparse(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
