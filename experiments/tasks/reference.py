"""The reference domain, with exact checkers: the game of 24, countdown, arithmetic."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from experiments.item import Grade, Item
from experiments.problems import arithmetic as arithmetic_problems
from experiments.problems import countdown as countdown_problems
from experiments.problems.countdown import Puzzle
from experiments.tasks.files import find, folder, malformed, missing, read_rows
from search.errors import ConfigError
from verifiers.grade import arithmetic, countdown

log = logging.getLogger(__name__)

# Puzzles that players of the game know; the last four have no solution without fractions on the way.
WELL_KNOWN = (
    (4, 9, 10, 13), (4, 4, 10, 10), (1, 2, 3, 4), (6, 6, 6, 6), (2, 2, 6, 6), (1, 1, 4, 6), (2, 4, 6, 8),
    (3, 4, 5, 6), (1, 4, 8, 8), (5, 6, 6, 9), (2, 7, 8, 9), (1, 2, 7, 7), (4, 5, 6, 10), (3, 6, 6, 10),
    (2, 2, 2, 12), (3, 9, 9, 10), (1, 3, 4, 6), (3, 3, 8, 8), (1, 5, 5, 5), (2, 3, 5, 12),
)  # fmt: skip


@dataclass(frozen=True)
class _Puzzles:
    """What the two puzzle tasks have in common: the bare question, the exact checker, votes by canonical form."""

    name: ClassVar[str]

    def _item(self, name: str, puzzle: Puzzle, **fields: Any) -> Item:
        known = {"numbers": puzzle.numbers, "target": puzzle.target}
        return Item(name, self.name, puzzle.question, None, {**known, **fields})

    def _from_file(self, path: Path) -> list[Item]:
        items = []
        for number, row in read_rows(path):
            numbers, target, name = row.get("numbers"), row.get("target"), row.get("id")
            if not isinstance(numbers, list) or not numbers or any(type(n) is not int or n < 0 for n in numbers):
                raise malformed(path, number, 'has no "numbers"; give every row a list of whole numbers')
            if type(target) is not int or not isinstance(name, str):
                raise malformed(path, number, 'has no "target" or no "id"; give every row a whole number and a text')
            items.append(self._item(name, Puzzle(tuple(numbers), target), **{k: row[k] for k in ("rank",) if k in row}))
        return items

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The bare question."""
        return [{"role": "user", "content": item.question}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Expressions are equal when they agree up to order, brackets and idle signs."""
        return countdown.classes(texts)

    async def grade(self, item: Item, text: str) -> Grade:
        """Any valid expression counts; "unknown" for a question that is no puzzle."""
        puzzle = countdown.puzzle(item)
        if puzzle is None:
            return Grade(
                "unknown", countdown.find(text), reason="the question is not of the form `Make 24 from 1 2 3 4.`"
            )
        return countdown.grade(text, *puzzle)

    def check(self, item: Item, text: str) -> bool:
        """Whether the completion solves the puzzle; needs no reference answer. False for a question that is none."""
        check = countdown.checker(item)
        return check is not None and check(text)


@dataclass(frozen=True)
class Game24(_Puzzles):
    """The game of 24: the public list of 1,362 puzzles, easiest first, or some well-known ones where there is no data.

    Yao et al. 2023, "Tree of Thoughts", take the 100 puzzles after the first 900 of the list.

    Attributes:
        data: folder with game24.jsonl; None takes the environment variable TREEWISE_DATA, and without that the
            well-known puzzles.
    """

    data: str | None = None

    name: ClassVar[str] = "game24"

    def items(self) -> list[Item]:
        """All puzzles. Raises ConfigError for a data folder without game24.jsonl."""
        return self._items

    @cached_property
    def _items(self) -> list[Item]:
        if folder(self.data) is None:
            log.warning("game24: %d well-known puzzles; data=DIR gives the public list", len(WELL_KNOWN))
            return [self._item("game24-" + "-".join(map(str, numbers)), Puzzle(numbers, 24)) for numbers in WELL_KNOWN]
        path = find(self.data, "game24")
        if path is None:
            raise missing(self.data, "game24")
        log.info("game24: read from %s", path)
        return self._from_file(path)


@dataclass(frozen=True)
class Countdown(_Puzzles):
    """Countdown: the project's own held-out puzzles, or those of a file.

    Attributes:
        source: "held_out", generated and never seen in training; or "data", countdown_generated.jsonl.
        data: the folder of that file; None takes the environment variable TREEWISE_DATA.
        count: how many held-out puzzles there are, at least 1; the first ones of a fixed sequence.
    """

    source: str = "held_out"
    data: str | None = None
    count: int = 500

    name: ClassVar[str] = "countdown"

    def __post_init__(self) -> None:
        if self.source not in ("held_out", "data"):
            raise ConfigError("source", self.source, 'give "held_out" or "data"')
        _check_count(self.count)

    def items(self) -> list[Item]:
        """All puzzles. Raises ConfigError where a file is asked for and missing."""
        return self._items

    @cached_property
    def _items(self) -> list[Item]:
        if self.source == "held_out":
            puzzles = countdown_problems.test_split(self.count)
            return [self._item(f"countdown-held-out-{index}", puzzle) for index, puzzle in enumerate(puzzles)]
        path = find(self.data, "countdown_generated")
        if path is None:
            raise missing(self.data, "countdown_generated")
        log.info("countdown: read from %s", path)
        return self._from_file(path)


@dataclass(frozen=True)
class Arithmetic:
    """Arithmetic of several operations: the project's own held-out problems.

    There is no `check`: computing the answer is the problem itself, so no checker may do it during a search.

    Attributes:
        count: how many problems there are, at least 1; the first ones of a fixed sequence.
    """

    count: int = 500

    name: ClassVar[str] = "arithmetic"

    def __post_init__(self) -> None:
        _check_count(self.count)

    def items(self) -> list[Item]:
        """All problems."""
        return self._items

    @cached_property
    def _items(self) -> list[Item]:
        problems = arithmetic_problems.test_split(self.count)
        return [
            Item(f"arithmetic-held-out-{index}", self.name, problem.question, str(problem.answer))
            for index, problem in enumerate(problems)
        ]

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The bare question."""
        return [{"role": "user", "content": item.question}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Answers are equal when their exact values are."""
        return arithmetic.classes(texts)

    async def grade(self, item: Item, text: str) -> Grade:
        """Exact; where the item has no reference answer its question is computed, if it can be."""
        gold = arithmetic.value(item.answer) if item.answer is not None else None
        if gold is None and (expression := arithmetic.read_question(item.question)) is not None:
            gold = expression.value
        if gold is None:
            return Grade("unknown", arithmetic.find(text), reason="the question is not of the form `Compute 1+2*3.`")
        return arithmetic.grade(text, gold)


def _check_count(count: int) -> None:
    if count < 1:
        raise ConfigError("count", count, "give a whole number of at least 1")
