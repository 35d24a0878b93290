"""Training rows: token ids with, for each position, what the language model learns and what the verifier is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.train.tokenizer import ASSISTANT, END, PAD, PHRASES, USER, build

GOOD, BAD, UNKNOWN = 1, 0, -1
SEPARATOR = "\n\n"
_PIECES = re.compile("|".join(map(re.escape, PHRASES)) + r"|\d{1,2}(?=(?:\d{2})*(?!\d))|.", re.DOTALL)


@cache
def _ids() -> dict[str, int]:
    tokenizer = build()
    return {tokenizer.decode([i]): i for i in range(len(tokenizer))}


def encode(text: str) -> list[int]:
    """What the tokenizer gives for text of the domain, a hundred times faster (held equal by a test)."""
    ids = _ids()
    return [ids[piece] for piece in _PIECES.findall(text)]


@dataclass
class Row:
    """One training sequence, or a trunk with branches that do not see each other.

    Attributes:
        tokens: ids, one per position.
        learn: whether the language model learns to predict this position.
        label: GOOD while a right answer can still follow, BAD once it cannot, UNKNOWN where nothing is claimed.
        branch: 0 for the trunk, i for the i-th branch, which sees the trunk and itself.
    """

    tokens: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)

    def add(self, tokens: Sequence[int], *, learn: bool, label: int | Sequence[int], branch: int = 0) -> None:
        """Appends tokens; `label` is one for all or one for each."""
        self.tokens += tokens
        self.learn += [learn] * len(tokens)
        self.label += [label] * len(tokens) if isinstance(label, int) else label
        self.branch += [branch] * len(tokens)

    def ask(self, question: str) -> None:
        """Appends the rendered prompt."""
        self.add([USER, *encode(question), ASSISTANT], learn=False, label=UNKNOWN)

    def __len__(self) -> int:
        return len(self.tokens)


class Batch(NamedTuple):
    """Right-padded rows."""

    tokens: Tensor  # (rows, length) ids
    learn: Tensor  # (rows, length) bool
    label: Tensor  # (rows, length) GOOD, BAD or UNKNOWN
    position: Tensor | None  # (rows, length), None where it is 0, 1, 2, ...
    visible: Tensor | None  # (rows, 1, length, length) bool, None where it is causal


def collate(rows: Sequence[Row]) -> Batch:
    """Rows of about equal length as one batch."""
    length = max(map(len, rows))

    def padded(columns: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[*c, *[filler] * (length - len(c))] for c in columns])

    tokens = padded([r.tokens for r in rows], PAD)
    learn = padded([r.learn for r in rows], 0).bool()
    label = padded([r.label for r in rows], UNKNOWN)
    if not any(r.branch[-1] for r in rows):
        return Batch(tokens, learn, label, None, None)
    branch = padded([r.branch for r in rows], 0)
    causal = torch.ones(length, length).tril().bool()
    visible = causal & ((branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None]))
    return Batch(tokens, learn, label, visible.sum(-1) - 1, visible[:, None])


def lesson(question: str, lines: Sequence[str]) -> Row:
    """A right solution, for the language model."""
    row = Row()
    row.ask(question)
    row.add([*encode(SEPARATOR.join(lines)), END], learn=True, label=GOOD)
    return row


def first_difference(a: Sequence[int], b: Sequence[int]) -> int:
    """The first index at which two sequences differ."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
