"""Questions about a database, answered by a query: Text2SQL (Finegan-Dollak et al. 2018), GeoQuery and Restaurants."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from experiments.item import Grade, Item
from experiments.tasks.files import VARIABLE, malformed, missing, read_rows
from search.errors import ConfigError, VerifierError
from verifiers.database import path as database
from verifiers.grade.sql import ordered, run_query

HOW = (
    "Answer with one SQLite query. Think first; you may try queries on the way, each as "
    "<intermediate_sql>...</intermediate_sql>, and read what they give in <result>...</result>. "
    "End with <final_sql>...</final_sql>."
)
FENCE = re.compile(r"```(?:sql|sqlite)?\s*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Text2SQL:
    """The questions of two small databases; an answer is right when its query gives what a reference query gives.

    Rows are compared as a multiset, in order where the reference asks for one. References that are alternatives of
    each other all count. About a sixth of the references give no rows, and every query without rows passes there:
    `empty=False` leaves those questions out.

    Attributes:
        data: folder of benchmark files; None takes the environment variable TREEWISE_DATA.
        empty: whether questions whose reference gives no rows are asked.
        seconds: of processor time a query may take.
    """

    data: str | None = None
    empty: bool = False
    seconds: float = 5.0

    name: ClassVar[str] = "text2sql"

    def items(self) -> list[Item]:
        """All questions in the order of the file. Raises ConfigError where the data is missing or malformed."""
        return self._items

    @property
    def _folder(self) -> str | None:
        return self.data or os.environ.get(VARIABLE)

    @cached_property
    def _items(self) -> list[Item]:
        root = Path(self._folder or ".")
        places = [root / "text2sql.jsonl", root / "text2sql" / "text2sql.jsonl"]
        places.append(root / "benchmarks" / "text2sql" / "text2sql.jsonl")
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise missing(self.data, "text2sql/text2sql")
        items, references = [], self._references
        for number, row in read_rows(file):
            if lacking := [name for name in ("id", "db", "question", "sql", "n_result_rows") if name not in row]:
                raise malformed(file, number, f"has no {lacking[0]!r}; take the file of text2sql")
            if not row["n_result_rows"] and not self.empty:
                continue
            name = row["db"].removesuffix(".sqlite")
            schema = self._schema(name, file.parent)
            question = f"Database: {name}\n\n{schema}\n\nQuestion: {row['question']}"
            items.append(Item(str(row["id"]), self.name, question, row["sql"], {"database": name}))
            references[str(row["id"])] = (row["sql"], *row.get("alternatives", ()))
        return items

    @cached_property
    def _references(self) -> dict[str, tuple[str, ...]]:
        return {}

    def _schema(self, name: str, folder: Path) -> str:
        path = folder / f"{name}.schema.sql"
        if not path.is_file():
            raise ConfigError("data", self.data, f"there is no {path.name} beside the questions")
        return path.read_text(encoding="utf-8").strip()

    def messages(self, item: Item) -> list[Mapping[str, str]]:
        """The schema, the question, and how the answer is marked."""
        return [{"role": "user", "content": f"{item.question}\n\n{HOW}"}]

    async def classes(self, texts: Sequence[str]) -> list[int | None]:
        """Queries are equal when their texts are, but for spaces, case and the last semicolon; `search=reex_sql` votes
        by their results instead.
        """
        labels: dict[str, int] = {}
        found = [answer(text) for text in texts]
        plain = [None if sql is None else " ".join(sql.rstrip("; \n").lower().split()) for sql in found]
        return [None if sql is None else labels.setdefault(sql, len(labels)) for sql in plain]

    async def grade(self, item: Item, text: str) -> Grade:
        """By what the query gives. Raises VerifierError where a reference query fails."""
        sql = answer(text)
        if sql is None:
            return Grade("unparsable", None, reason="no query in the text")
        file = database(self._folder, item.fields["database"])
        given = await run_query(file, sql, self.seconds)
        if given.error:
            return Grade("wrong", sql, reason=given.error)
        for reference in self._references[item.id]:
            wanted = await run_query(file, reference, self.seconds)
            if wanted.error:
                raise VerifierError(f"the reference of {item.id} fails: {wanted.error}")
            if given.key(ordered(reference)) == wanted.key(ordered(reference)):
                return Grade("right", sql)
        return Grade("wrong", sql, reason="it gives something else")


def answer(text: str) -> str | None:
    """The query in the last <final_sql> of a text, else in its last fenced block, else a text that is a query."""
    if "<final_sql>" in text:
        found = text.rpartition("<final_sql>")[2].partition("</final_sql>")[0]
    elif blocks := FENCE.findall(text):
        found = blocks[-1]
    else:
        found = text if re.match(r"\s*(select|with)\b", text, re.IGNORECASE) else ""
    return found.strip() or None
