"""Queries: read-only, within limits, compared by what they give."""

import sqlite3

import pytest

from search.errors import ConfigError, PolicyError, VerifierError
from search.types import Prefix, Request, Sampling
from verifiers.database import Database
from verifiers.grade.sql import Table, ordered, run_query


@pytest.fixture
def base(tmp_path):
    """A database of two small tables."""
    with sqlite3.connect(tmp_path / "towns.sqlite") as connection:
        connection.executescript(
            "create table town (name text, people int, area real);"
            "insert into town values ('a', 3, 1.5), ('b', 5, 2.0), ('c', 4, null), ('d', 1, 0.5);"
        )
    connection.close()
    return tmp_path / "towns.sqlite"


async def test_a_result(base):
    table = await run_query(base, "select name, people from town where people > 3 order by people")
    assert table == Table(("name", "people"), (("c", 4), ("b", 5)))
    assert table.show(1) == "name | people\nc | 4\n(1 more rows)" and table.show(2) == "name | people\nc | 4\nb | 5"
    assert (await run_query(base, "select null, x'ff', 'x'")).show(3).endswith("NULL | ff | x")


HARM = [
    "insert into town values ('e', 1, 1)",
    "delete from town",
    "drop table town",
    "create table x (y)",
    "update town set people = 0",
    "attach database '/etc/passwd' as x",
    "vacuum into '/tmp/copy.sqlite'",
    "pragma query_only = 0",
    "pragma writable_schema = 1",
    "select load_extension('x')",
    "select readfile('/etc/passwd')",
    "select 1; drop table town",
    "begin immediate",
    "create temp table x as select 1",
    "",
    "no query",
    "select",
    "select nothing from nowhere",
    "select '\0",
]


@pytest.mark.parametrize("sql", HARM)
async def test_harm_is_an_error(sql, base):
    before = base.read_bytes()
    table = await run_query(base, sql)
    assert table.error and table.show(3).startswith("error: ") and not table.rows
    assert base.read_bytes() == before


@pytest.mark.parametrize(
    "sql",
    [
        "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n",
        "with recursive n(x) as (select 'x' union all select x || x from n) select max(x) from n",
        "with recursive n(x) as (select 1 union all select x + 1 from n where x < 99999999) select sum(x) from n",
    ],
)
async def test_what_takes_too_much_is_an_error(sql, base):
    table = await run_query(base, sql, seconds=0.3)
    assert table.error, table
    assert (await run_query(base, "select 1", seconds=0.3)).rows == ((1,),)


async def test_a_missing_file(tmp_path):
    with pytest.raises(VerifierError, match="there is no database"):
        await run_query(tmp_path / "x.sqlite", "select 1")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("select name from town", "select name from town order by people", True),
        ("select name from town", "select name from town union all select name from town", False),
        ("select 1", "select 1.0", True),
        ("select 1", "select '1'", False),
        ("select 0.1 + 0.2", "select 0.3", True),
        ("select name as a from town", "select name as b from town", True),
        ("select name, people from town", "select people, name from town", False),
        ("select null", "select 0", False),
        ("select name from town where 0", "select people from town where 0", True),
        ("select 1", "select nothing", False),
    ],
)
async def test_equal_results(one, two, same, base):
    first, second = await run_query(base, one), await run_query(base, two)
    assert (first.key() == second.key()) is same


async def test_order_counts_where_it_is_asked_for(base):
    up, down = [await run_query(base, f"select people from town order by people {way}") for way in ("asc", "desc")]
    assert up.key() == down.key() and up.key(True) != down.key(True)
    assert ordered("select x from y ORDER  BY x") and not ordered(
        "select x from (select 1 order by 1) where 'order by'"
    )


def asked(*contents):
    database = Database()
    prompt = database.prompt([{"role": "user", "content": content} for content in contents])
    return Request(Prefix(prompt), Sampling(), (1, 2))


async def test_a_database_answers_like_a_policy(base):
    database = Database(data=str(base.parent), rows=1)
    question = "Database: towns\n\nQuestion: how many?"
    sqls = ("select name from town order by name", "select y", "select count(*) from town")
    replies = await database.sample([asked(question, sql) for sql in sqls])
    assert [reply.segments[0].text for reply in replies] == [
        "name\na\n(3 more rows)", "error: no such column: y", "count(*)\n4",
    ]  # fmt: skip
    assert all(len(reply.segments) == 2 and reply.cost.policy_calls == 1 for reply in replies)
    whole = await database.sample(
        [asked(question, sql, "whole") for sql in ("select name from town", "select name from town limit 9")]
    )
    assert whole[0].segments == whole[1].segments and len(whole[0].segments[0].text) == 16


async def test_a_question_without_a_database(base):
    with pytest.raises(PolicyError, match="names no database"):
        await Database(data=str(base.parent)).sample([asked("How many?", "select 1")])
    with pytest.raises(ConfigError, match=r"there is no rivers\.sqlite"):
        await Database(data=str(base.parent)).sample([asked("Database: rivers", "select 1")])
    for wrong in ({"rows": 0}, {"seconds": 0}):
        with pytest.raises(ConfigError):
            Database(**wrong)
