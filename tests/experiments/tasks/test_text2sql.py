"""Text2SQL on rows made here, and on the benchmark where it is at hand."""

import json
import os
import sqlite3

import pytest

from experiments.rows import read_rows
from experiments.tasks.text2sql import Text2SQL, answer
from search.errors import ConfigError, VerifierError

FULL = os.environ.get("TREEWISE_FULL") == "1"
ROWS = [
    {"id": "a", "db": "towns.sqlite", "question": "how many", "sql": "select count(*) from town", "n_result_rows": 1},
    {"id": "b", "db": "towns.sqlite", "question": "none", "sql": "select 1 where 0", "n_result_rows": 0},
    {"id": "c", "db": "towns.sqlite", "question": "names", "sql": "select name from town order by name",
     "alternatives": ["select name from town where name > 'a'"], "n_result_rows": 2},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    with sqlite3.connect(tmp_path / "towns.sqlite") as connection:
        connection.executescript("create table town (name text); insert into town values ('a'), ('b');")
    connection.close()
    (tmp_path / "towns.schema.sql").write_text("CREATE TABLE town (name text)")
    (tmp_path / "text2sql.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("<final_sql> select 1 </final_sql>", "select 1"),
        ("<final_sql>select 1</final_sql> no: <final_sql>select 2", "select 2"),
        ("So\n```sql\nselect 1\n```\n", "select 1"),
        ("select 1", "select 1"),
        ("With x as (select 1) select * from x", "With x as (select 1) select * from x"),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_the_query_in_a_text(text, sql):
    assert answer(text) == sql


async def test_grades_by_results(folder):
    task = Text2SQL(data=str(folder))
    count, names = task.items()
    assert [item.id for item in Text2SQL(data=str(folder), empty=True).items()] == ["a", "b", "c"]
    asked = task.messages(count)[0]["content"]
    assert asked.startswith("Database: towns\n\nCREATE TABLE town") and "Question: how many" in asked
    assert "count(*)" not in asked and "<final_sql>" in asked
    for item, text, verdict in [
        (count, "select 2", "right"), (count, "select '2'", "wrong"), (count, "select x", "wrong"),
        (count, "?", "unparsable"), (names, "select name from town order by 1", "right"),
        (names, "select name from town order by 1 desc", "wrong"), (names, "select 'b'", "right"),
    ]:  # fmt: skip
        assert (await task.grade(item, text)).verdict == verdict, text


async def test_votes_by_text(folder):
    texts = ["select 1;", "SELECT  1", "select 2", "?"]
    assert await Text2SQL(data=str(folder)).classes(texts) == [0, 0, 1, None]


async def test_what_is_missing_is_said(folder):
    with pytest.raises(ConfigError, match="text2sql"):
        Text2SQL(data=str(folder.parent)).items() if not (folder.parent / "text2sql.jsonl").exists() else None
    (folder / "text2sql.jsonl").write_text(json.dumps({**ROWS[0], "sql": "select x"}))
    broken = Text2SQL(data=str(folder))
    with pytest.raises(VerifierError, match="reference of a"):
        await broken.grade(broken.items()[0], "select 2")
    (folder / "text2sql.jsonl").write_text('{"id": "a"}')
    with pytest.raises(ConfigError, match="line 1 has no 'db'"):
        Text2SQL(data=str(folder)).items()


async def test_references_are_right(data):
    task = Text2SQL(data=str(data), seconds=20.0)
    items = task.items()
    assert len(items) == 1250 - 223
    for item in items[:: 1 if FULL else 100]:
        assert (await task.grade(item, f"<final_sql>{item.answer}</final_sql>")).verdict == "right", item.id


def test_the_search_runs_from_the_command_line(folder, solve, tmp_path):
    """The toy policy writes no query, so that its answers abstain; the run is whole all the same."""
    options = ["task=text2sql", "search=reex_sql", "policy=toy", "verifier=none", "limit=1", f"data={folder}"]
    assert solve(*options, "steps=token", f"out={tmp_path / 'run'}") == 0
    (row,) = read_rows(tmp_path / "run")
    assert row.error is None and row.correct is False
