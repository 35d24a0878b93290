"""A task whose answers are graded by replicas: graders and sandboxes in a pool like any other part."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from experiments.item import Item, Task
from policies.pool.home import Build
from policies.pool.hosting import Hosting
from policies.pool.pool import Pool
from policies.pool.port import Port, by_content
from policies.pool.rules import Counters
from search.errors import VerifierError
from verifiers.grade import Grade


@dataclass(frozen=True)
class Marking:
    """Makes a task that grades in batches, wherever that is."""

    build: Build

    def __call__(self) -> Graders:
        return Graders(self.build())


@dataclass(frozen=True)
class Graders:
    """The grading of a task, batch in, batch out."""

    task: Task

    async def grade(self, pairs: Sequence[tuple[Item, str]]) -> list[Grade]:
        """A grade for each item and text."""
        return list(await asyncio.gather(*(self.task.grade(item, text) for item, text in pairs)))

    async def classes(self, groups: Sequence[tuple[str, ...]]) -> list[Sequence[int | None]]:
        """Labels for each group of texts."""
        return list(await asyncio.gather(*(self.task.classes(texts) for texts in groups)))


def _is_grade(_: object, answer: object) -> None:
    if not isinstance(answer, Grade):
        raise VerifierError(f"a grader answered {answer!r}")


def _labels(texts: Sequence[str], answer: Any) -> None:
    if len(answer) != len(texts) or not all(label is None or isinstance(label, int) for label in answer):
        raise VerifierError(f"a grader labelled {len(texts)} texts {answer!r}")


GRADE = Port("grade", by_content, _is_grade, VerifierError)
CLASSES = Port("classes", by_content, _labels, VerifierError, weight=lambda texts: max(len(texts), 1))


class PooledTask:
    """A task that knows its items and prompts here, and has answers graded by replicas while it is entered.

    Outside `async with` it grades here.
    """

    def __init__(self, task: Task, hosting: Hosting, build: Build):
        self.task, self.hosting, self.build = task, hosting, build
        self.counters = Counters()
        self._pool: Pool | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task!r}, {self.hosting!r})"

    async def __aenter__(self) -> Self:
        self._pool = await self.hosting.pool(Marking(self.build)).__aenter__()
        self.counters = self._pool.counters
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        assert pool is not None
        await pool.__aexit__(kind, error, at)

    def items(self) -> Sequence[Item]:
        """As the task."""
        return self.task.items()

    def messages(self, item: Item) -> Sequence[Mapping[str, str]]:
        """As the task."""
        return self.task.messages(item)

    async def classes(self, texts: Sequence[str]) -> Sequence[int | None]:
        """As the task, by a replica."""
        if self._pool is None:
            return await self.task.classes(texts)
        (labels,) = await self._pool(CLASSES, [tuple(texts)])
        found: Sequence[int | None] = labels
        return found

    async def grade(self, item: Item, text: str) -> Grade:
        """As the task, by a replica."""
        if self._pool is None:
            return await self.task.grade(item, text)
        (grade,) = await self._pool(GRADE, [(item, text)])
        found: Grade = grade
        return found
