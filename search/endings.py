"""Why a trajectory ends, beside the end of sequence: an answer in a box, text that repeats itself, limits."""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import NamedTuple

from search.tree import Node

BOX = "\\boxed{"


class Ending(IntEnum):
    """Why a TreePO trajectory ended; the number is its priority as a source of new ones (arXiv:2508.17445)."""

    ANSWERED = 7  # 6 is for a state that no rule gives
    END = 5
    DEPTH = 4
    TOKENS = 3
    REPETITION = 2
    UNFINISHED = 1  # cut by a budget


class Trajectory(NamedTuple):
    """A path that ended: its last node, why, and how many tokens it has after the prompt."""

    leaf: Node
    ending: Ending
    tokens: int


def boxed(text: str) -> bool:
    r"""Whether `text` holds a complete \boxed{...}: with as many closing as opening braces."""
    start = text.find(BOX)
    while start >= 0:
        open_ = 0
        for character in text[start + len(BOX) - 1 :]:
            open_ += (character == "{") - (character == "}")
            if not open_:
                return True
        start = text.find(BOX, start + 1)
    return False


def repeats(text: str, window: int = 32, times: int = 8) -> bool:
    """Whether some `window` characters occur at least `times` times in `text`; occurrences may overlap."""
    windows = Counter(text[i : i + window] for i in range(len(text) - window + 1))
    return max(windows.values(), default=0) >= times
