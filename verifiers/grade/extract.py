"""Find the final answer in a whole completion.

In this order, the first that gives something: the last `\\boxed{}`, `\\fbox{}` or `\\framebox{}`; the last line that
starts with `####`; the last "the answer is ..."; the whole text where it is an answer and no sentence; and, only where
the caller declares it, the last formula or number. Text inside `<think>` tags is never an answer.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from verifiers.grade.units import TEXT

THOUGHT = re.compile(r"<(think|thinking)>.*?</\1>", re.DOTALL | re.IGNORECASE)
OPEN_THOUGHT = re.compile(r"<(?:think|thinking)>", re.IGNORECASE)
CLOSE_THOUGHT = re.compile(r"</(?:think|thinking)>", re.IGNORECASE)
BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*(?:\[[^\]\n]*\]\s*)*")
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is no brace
BARE_GROUP = re.compile(r"\d+|[A-Za-z]|\\[A-Za-z]+")
HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
STATED = re.compile(
    r"\banswers?\b(?:\s+(?:to|for|of)\b[^.\n:=]{0,80}?)?\s*\**\s*(?:(?:is|are|was)\b\s*:?|:|=)\s*\**\s*", re.IGNORECASE
)
SENTENCE_END = re.compile(r"\n|(?<![ap]\.m)\.(?=\s|\*|$)", re.IGNORECASE)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\\d])\$([^$\n]+?)(?<!\\)\$", re.DOTALL)
NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?|(?<![\w.])[-+−]?\.\d+"
)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
NOISE = re.compile(r"\\(?:text|quad|qquad|[()\[\],;: ])|[$\s{}]")
JOINT = re.compile(r"(?:,?(?:and|or)|[,;])?(?:[A-Za-z](?:_\w+)?=)?")


class Found(NamedTuple):
    """An answer and where it was."""

    text: str  # as written, without the box and the surrounding spaces; never empty
    how: Literal["boxed", "hashes", "stated", "whole", "last"]


def extract(text: str, *, last_resort: bool = False) -> Found | None:
    """The final answer of a completion, or None.

    Args:
        text: the whole completion, or any part that ends with its end.
        last_resort: where nothing marks the answer, take the last formula or number of the text.
    """
    text = without_thoughts(text)
    if boxed := last_boxes(text):
        return Found(boxed, "boxed")
    if lines := HASHES.findall(text):
        return Found(lines[-1], "hashes")
    for match in reversed(list(STATED.finditer(text))):
        if phrase := _phrase(text[match.end() :]):
            return Found(phrase, "stated")
    if is_bare(text):
        return Found(text.strip(), "whole")
    if last_resort and (last := _last(text)):
        return Found(last, "last")
    return None


def is_bare(text: str) -> bool:
    """Whether a text is an answer and no sentence: no words, a few words alone, or a few after its mathematics."""
    text = TEXT.sub(" ", text.strip())  # words in \\text{} belong to the answer
    if not text or BOX.search(text):
        return False
    prose = [word for word in WORD.finditer(text) if word.group() not in ("and", "or")]
    if not prose:
        return True
    if "\n" in text:
        return False
    if (formula := FORMULA.search(text)) and WORD.search(text.replace(formula.group(), " ")):
        return False
    mathematics = re.search(r"[\d\\=(\[]", text)
    if mathematics is None:
        return len(prose) <= 3
    return mathematics.start() < prose[0].start() and len(prose) <= 4


def without_thoughts(text: str) -> str:
    """The text outside `<think>` tags: what follows the last closed one, nothing after one that never closes."""
    text = THOUGHT.sub(" ", text)
    if closed := list(CLOSE_THOUGHT.finditer(text)):  # the prompt opened it
        text = text[closed[-1].end() :]
    opened = OPEN_THOUGHT.search(text)
    return text[: opened.start()] if opened else text


def last_boxes(text: str) -> str | None:
    """What the last box holds; boxes joined by nothing but "and", "or" or commas are one list. None without a box.

    An empty box and one that never closes (a text cut short) hold no answer.
    """
    boxes: list[tuple[int, int, str]] = []  # start, end, content; none inside another
    closing = _closing(text)
    for match in BOX.finditer(text):
        if content := _group(text, match.end(), closing):
            inner, end = content
            if inner.strip():
                while boxes and boxes[-1][1] > match.start():  # an inner box says it more closely than the outer one
                    boxes.pop()
                boxes.append((match.start(), end, inner.strip()))
    if not boxes:
        return None
    answer = [boxes[-1]]
    while len(answer) < len(boxes) and _joined(text[boxes[-len(answer) - 1][1] : answer[0][0]]):
        answer.insert(0, boxes[-len(answer) - 1])
    return ",".join(dict.fromkeys(content for *_, content in answer))


def _joined(between: str) -> bool:
    """Whether what stands between two boxes makes them one list: `, `, ` and `, `$ or $`, ` and $y=`, or nothing."""
    core = NOISE.sub("", between)
    return JOINT.fullmatch(core) is not None and (bool(core) or "\n" not in between)


def _closing(text: str) -> dict[int, int]:
    """Where the group that each brace opens is closed; braces that never close are left out."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    for brace in BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif brace.group() == "}" and opened:
            closing[opened.pop()] = brace.start()
    return closing


def _group(text: str, start: int, closing: dict[int, int]) -> tuple[str, int] | None:
    """What the group that starts at `start` holds, and where it ends; a bare number, letter or command is a group."""
    if start in closing:
        return text[start + 1 : closing[start]], closing[start] + 1
    bare = BARE_GROUP.match(text, start)
    return (bare.group(), bare.end()) if bare else None


def _phrase(rest: str) -> str:
    """The answer at the start of what follows "the answer is"; "" if there is none."""
    rest = rest.lstrip()
    formula = FORMULA.match(rest)
    if formula and SENTENCE_END.match(rest.removeprefix(formula.group()).lstrip(" *") or "\n"):
        return next(filter(None, formula.groups())).strip()
    end = SENTENCE_END.search(rest)
    phrase = (rest[: end.start()] if end else rest).strip(" *\t")
    if is_bare(phrase):
        return phrase
    return _last(phrase) or (phrase if len(phrase) <= 80 else "")  # a sentence: what it ends on


def _last(text: str) -> str | None:
    """The last formula or number of a text, whichever ends later."""
    formulas, numbers = list(FORMULA.finditer(text)), list(NUMBER.finditer(text))
    if formulas and (not numbers or formulas[-1].end() >= numbers[-1].end()):
        start = len(formulas) - 1
        while start and _joined(text[formulas[start - 1].end() : formulas[start].start()]):
            start -= 1
        return ", ".join(next(filter(None, match.groups())).strip() for match in formulas[start:]) or None
    return numbers[-1].group().strip() if numbers else None
