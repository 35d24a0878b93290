"""Mathematics in words with a reference answer: GSM8K, MATH-500, AIME, and files of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from experiments.item import Grade, Item
from experiments.tasks.files import Remote, Row, benchmark, malformed, read_rows
from search.errors import ConfigError
from verifiers.grade import arithmetic, countdown
from verifiers.grade.extract import extract
from verifiers.grade.math import MathGrader

INSTRUCTION = "Reason step by step, and put your final answer in \\boxed{}."
KEPT = ("subject", "level", "year", "exam", "number")  # columns of a row that stay with its item


@dataclass(frozen=True)
class Mathematics:
    """What these tasks have in common; `name`, `file` and `remote` tell them apart.

    Attributes:
        data: folder of benchmark files; None takes the environment variable TREEWISE_DATA, and without that the
            Hugging Face hub, where the package `datasets` is installed.
        instruction: follows every question, after an empty line; "" for none.
    """

    data: str | None = None
    instruction: str = INSTRUCTION

    name: ClassVar[str]
    file: ClassVar[str]
    remote: ClassVar[Remote]

    def items(self) -> list[Item]:
        """All problems in the order of the file. Raises ConfigError where the data is missing or malformed."""
        return self._items

    @cached_property
    def _items(self) -> list[Item]:
        rows = benchmark(self.data, self.file, self.remote, self.convert)
        return [
            Item(str(row["id"]), self.name, row["problem"], str(row["answer"]), {k: row[k] for k in KEPT if k in row})
            for row in rows
        ]

    @cached_property
    def _grader(self) -> MathGrader:
        return MathGrader()

    def convert(self, row: Row, index: int) -> Row:
        """A row like the file's from a row of the hub's data set."""
        return {**row, "id": f"{self.name}-{index}"}

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The question and the instruction."""
        return [{"role": "user", "content": "\n\n".join(filter(None, (item.question, self.instruction)))}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """By mathematical equality."""
        return await self._grader.classes(texts)

    async def grade(self, item: Item, text: str) -> Grade:
        """By mathematical equality with the reference answer."""
        if item.answer is None:
            found = extract(text, last_resort=True)
            return Grade("unknown", found.text if found else None, reason="no reference answer")
        return await self._grader.grade(text, gold=item.answer)


class GSM8K(Mathematics):
    """Grade-school word problems, test split (Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems")."""

    name = "gsm8k"
    file = "gsm8k_test"
    remote = Remote("openai/gsm8k", "main", "test")

    def convert(self, row: Row, index: int) -> Row:
        return {
            "id": f"gsm8k-test-{index}",
            "problem": row["question"],
            "answer": row["answer"].split("####")[-1].strip(),
        }


class Math500(Mathematics):
    """500 test problems of MATH (Hendrycks et al. 2021), those of Lightman et al. 2023, "Let's Verify Step by Step"."""

    name = "math500"
    file = "math500"
    remote = Remote("HuggingFaceH4/MATH-500", None, "test")

    def convert(self, row: Row, index: int) -> Row:
        return {**row, "id": row["unique_id"]}


class Aime24(Mathematics):
    """The American Invitational Mathematics Examination of 2024, I and II: 30 problems."""

    name = "aime24"
    file = "aime24"
    remote = Remote("HuggingFaceH4/aime_2024", None, "train")


class Aime25(Mathematics):
    """The American Invitational Mathematics Examination of 2025, I and II: 30 problems."""

    name = "aime25"
    file = "aime25"
    remote = Remote("math-ai/aime25", None, "test")


@dataclass(frozen=True)
class Jsonl(Mathematics):
    """Problems of one's own: a JSON-lines file with rows {"id", "problem", "answer"}; the answer may be null.

    Questions of the reference domain (`Make 24 from 4 9 10 13.`, `Compute 24+(34*6-18).`) are asked as they stand, and
    puzzles are judged by the exact checker, since any expression that makes 24 equals 24.

    Attributes:
        path: the file; gzip where its name ends in .gz.
    """

    path: str = ""

    name: ClassVar[str] = "jsonl"

    def __post_init__(self) -> None:
        if not self.path:
            raise ConfigError("path", self.path, "give task.path=FILE, a file of rows {id, problem, answer}")

    @cached_property
    def _items(self) -> list[Item]:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise ConfigError("path", self.path, "there is no such file; give one of rows {id, problem, answer}")
        items: list[Item] = []
        lines: dict[str, int] = {}
        for number, row in read_rows(path):
            item = self._item(path, number, row)
            if item.id in lines:
                raise malformed(path, number, f"has the id {item.id!r} of line {lines[item.id]}; make every id unique")
            lines[item.id] = number
            items.append(item)
        if not items:
            raise ConfigError("path", self.path, "it has no rows; give at least one {id, problem, answer}")
        return items

    def _item(self, path: Path, number: int, row: Mapping[str, Any]) -> Item:
        problem, answer, name = row.get("problem"), row.get("answer"), row.get("id")
        if type(name) not in (str, int) or name == "":
            raise malformed(path, number, 'has no "id"; give every row a text or a whole number')
        if not isinstance(problem, str) or not problem.strip():
            raise malformed(path, number, 'has no "problem"; give every row the text of one')
        if "answer" not in row or not (answer is None or type(answer) in (str, int, float)) or answer == "":
            raise malformed(path, number, 'has no "answer"; give every row a text or a number, or null if unknown')
        fields = {key: value for key, value in row.items() if key in KEPT}
        return Item(str(name), self.name, problem, None if answer is None else str(answer), fields)

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The question, and the instruction unless the question is one of the reference domain."""
        if countdown.puzzle(item) or arithmetic.read_question(item.question):
            return [{"role": "user", "content": item.question}]
        return super().messages(item)

    async def grade(self, item: Item, text: str) -> Grade:
        """By the exact checker for puzzles, else by mathematical equality with the reference answer."""
        if (puzzle := countdown.puzzle(item)) is not None:
            return countdown.grade(text, *puzzle)
        return await super().grade(item, text)
