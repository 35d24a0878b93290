"""A database as the environment of a search: a query asked of it like of any policy is answered with its result."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from search.errors import ConfigError, PolicyError
from search.types import Cost, Finish, Reply, Request, Segment
from verifiers.grade.sql import ordered, run_query

NAMED = re.compile(r"^Database: (\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Database:
    """Answers a chat of two messages, the question and a query, with the query's result on the question's database: the
    names of its columns and its first rows, or its error. With a third message, "whole", the answer is a word that is
    equal for results that are equal in all rows.

    The question names its database in a line `Database: geography`, a file `geography.sqlite` of the folder. Answers
    have no tokens and cost a call each; the same query is always answered alike.

    Attributes:
        data: the folder of the databases, or one that holds it as `text2sql` or `benchmarks/text2sql`.
        rows: shown of a result.
        seconds: of processor time a query may take; a longer one is answered with an error.
    """

    data: str | None = None
    rows: int = 3
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ConfigError("rows", self.rows, "give a number of at least 1")
        if not self.seconds > 0:
            raise ConfigError("seconds", self.seconds, "give a positive number")

    @property
    def fingerprint(self) -> str:
        return f"database:{self.rows}:{self.seconds}"

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """The contents of the messages as JSON."""
        return Segment((), json.dumps([message["content"] for message in messages]))

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return list(await asyncio.gather(*map(self._reply, requests)))

    async def _reply(self, request: Request) -> Reply:
        question, sql, *whole = json.loads(request.prefix.prompt.text)
        if (named := NAMED.search(question)) is None:
            raise PolicyError("the question names no database; take task=text2sql, or begin it with `Database: NAME`")
        table = await run_query(path(self.data, named[1]), sql, self.seconds)
        if whole and not table.error:
            text = blake2b(repr(table.key(ordered(sql))).encode(), digest_size=8).hexdigest()
        else:
            text = table.show(self.rows)
        answer = Segment((), text, finish=Finish.END)
        return Reply((answer,) * len(request.seeds), Cost(policy_calls=1))


def path(data: str | None, name: str) -> Path:
    """The file of a database. Raises ConfigError where there is none."""
    places = [Path(data or ".", *parts) for parts in ((), ("text2sql",), ("benchmarks", "text2sql"))]
    found = next((place / f"{name}.sqlite" for place in places if (place / f"{name}.sqlite").is_file()), None)
    if found is None:
        raise ConfigError("data", data, f"there is no {name}.sqlite; give data=DIR with the folder text2sql")
    return found
