"""What is solved: items, and the tasks they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from search.errors import ConfigError
from verifiers.grade import Grade

__all__ = ["Checks", "Grade", "Item", "Task", "cut"]

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One problem.

    Attributes:
        id: unique within its task.
        task: the name of its task.
        question: what is asked, before any instruction or template.
        answer: the reference answer; None where there is none.
        fields: what else is known of it and may be used while solving (numbers and target of a puzzle), or serves the
            report (subject, level).
    """

    id: str
    task: str
    question: str
    answer: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """A set of problems with a grader; the grader's `classes` make it a `search.ports.Grader`."""

    def items(self) -> Sequence[Item]:
        """All problems, in a fixed order. Raises ConfigError where the data is missing or malformed."""
        ...

    def messages(self, item: Item) -> Sequence[Mapping[str, str]]:
        """The chat that asks a model for the answer."""
        ...

    async def classes(self, texts: Sequence[str]) -> Sequence[int | None]:
        """Which of these answers are equal, for votes: see `search.ports.Grader`."""
        ...

    async def grade(self, item: Item, text: str) -> Grade:
        """Compare the answer in a completion with the reference; "unknown" where the item has none."""
        ...


@runtime_checkable
class Checks(Protocol):
    """A task with an exact checker that needs no reference answer."""

    def check(self, item: Item, text: str) -> bool:
        """Whether the completion `text` solves the item."""
        ...


def cut(items: Sequence[T], limit: int | None = None, offset: int = 0) -> list[T]:
    """The first `limit` items (None: all) after `offset`. Raises ConfigError for an offset beyond the end."""
    if limit is not None and limit < 1:
        raise ConfigError("limit", limit, "give a whole number of at least 1, or null for all items")
    if not 0 <= offset < len(items):
        raise ConfigError(
            "offset", offset, f"the task has {len(items)} items; give a number from 0 to {len(items) - 1}"
        )
    return list(items[offset:][:limit])


def shard(items: Sequence[Item], which: str | None) -> list[Item]:
    """Every n-th item from the i-th on, for `which` = "i/n" (i from 0); all for None. Raises ConfigError."""
    if which is None:
        return list(items)
    first, _, count = str(which).partition("/")
    if not (first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise ConfigError("shard", which, "give number/count, the number from 0: 0/4, 1/4, 2/4, 3/4")
    return list(items[int(first) :: int(count)])
