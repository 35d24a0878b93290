"""provisional"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Item:
    """i"""

    id: str
    task: str
    question: str
    answer: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grade:
    """g"""

    verdict: Literal["right", "wrong", "timeout", "unparsable"]
    answer: str | None
    seconds: float


class Task(Protocol):
    """t"""

    def items(self) -> Sequence[Item]: ...
    def messages(self, item: Item) -> Sequence[Mapping[str, str]]: ...
    async def classes(self, texts: Sequence[str]) -> Sequence[int | None]: ...
    async def grade(self, item: Item, text: str) -> Grade: ...
