"""ReEx-SQL on scripted paths and a real database: results come from it alone, and decide what goes on and what wins."""

import random
import sqlite3
from dataclasses import dataclass
from itertools import cycle, islice

import pytest

from search.algorithms.reex_sql import ReExSQL
from search.errors import ConfigError
from search.run import run
from search.select import First
from search.session import Session
from search.steps import Tokens
from search.types import Cost, Finish, Reply, Sampling, Segment
from verifiers.database import Database


def written(text: str, **fields) -> Segment:
    return Segment(tuple(map(ord, text)), text, (-0.5,) * len(text), **fields)


@dataclass
class Script:
    """Continues a text as the script says, the i-th seed with the i-th continuation in turn; notes what it saw."""

    lines: dict[str, list[str]]

    def __post_init__(self):
        self.seen = []

    def write(self, text):
        return Segment(tuple(map(ord, text)), text)

    def turn(self, text):
        return self.write(text)

    async def sample(self, requests):
        return [self._reply(request) for request in requests]

    def _reply(self, request):
        text = request.prefix.text
        self.seen.append(text)
        key = max((line for line in self.lines if text.endswith(line)), key=len)
        texts = list(islice(cycle(self.lines[key]), len(request.seeds)))
        segments = tuple(
            written(each, finish=Finish.STEP if request.sampling.until and each.endswith("</q>") else Finish.END)
            for each in texts
        )
        return Reply(segments, Cost(generated=sum(len(each) for each in texts), policy_calls=1))


TAGS = {"query": ("<q>", "</q>"), "final": ("<f>", "</f>"), "result": ("<r>", "</r>")}


@pytest.fixture
def searched(tmp_path):
    """Runs a search over a script, beside a database of the numbers 1 to 5."""
    with sqlite3.connect(tmp_path / "numbers.sqlite") as connection:
        connection.executescript("create table n (x int); insert into n values (1), (2), (3), (4), (5);")
    connection.close()

    async def go(search, lines):
        script = Script(lines)
        session = Session(
            Segment((1,), "?"), script, None, question="Database: numbers",
            step=Sampling(until=Tokens(1)), whole=Sampling(),
            roles={"executor": Database(data=str(tmp_path), seconds=0.3)},
        )  # fmt: skip
        outcome = await run(search, session, First())
        return outcome, script

    return go


async def test_a_path_reads_what_its_query_gives(searched):
    lines = {"": ["try <q>select max(x) from n</q>"], "<r>max(x)\n5</r>": ["so <f>select 5</f>"]}
    outcome, script = await searched(ReExSQL(leaves=1, width=1, **TAGS), lines)
    path = outcome.answer.path()
    assert [node.segment.by for node in path[1:]] == ["policy", "environment", "policy"]
    assert [node.segment.text for node in path[1:]] == [
        "try <q>select max(x) from n</q>", "<r>max(x)\n5</r>", "so <f>select 5</f>",
    ]  # fmt: skip
    assert path[2].segment.logprobs == () and outcome.stopped == "done"
    assert all(text.count("<r>") == text.count("</r>") for text in script.seen), "nothing is drawn inside a result"


async def test_errors_and_endless_queries_are_results_too(searched):
    endless = "with recursive n(x) as (select 1 union all select x from n) select count(*) from n"
    lines = {"": ["<q>select y from n</q>", f"<q>{endless}</q>"], "</r>": ["<f>select 1</f>"]}
    outcome, script = await searched(ReExSQL(leaves=2, width=2, **TAGS), lines)
    results = [node.segment.text for node in outcome.tree if node.segment.by == "environment"]
    assert results == ["<r>error: no such column: y</r>", "<r>error: over 0.3 s</r>"]
    assert len(outcome.tree.answers()) == 2


async def test_queries_with_the_same_result_are_one_path(searched):
    same = ["<q>select 5</q>", "<q>select max(x) as '5' from n</q>", "<q>select 4</q>"]
    lines = {"": same, "<r>5\n5</r>": ["<f>select 5</f>"], "<r>4\n4</r>": ["<f>select 4</f>"]}
    outcome, _ = await searched(ReExSQL(leaves=6, width=6, rounds=2, **TAGS), lines)
    first = outcome.tree.root.children
    assert [(node.segment.text, node.pruned, len(node.children)) for node in first] == [
        (same[0], False, 1), (same[1], True, 0), (same[2], False, 1),
    ]  # fmt: skip


class ByText(ReExSQL):
    """Broken: votes by the text of the query in place of its result."""

    async def run(self, s, sql, whole=False):
        return sql if whole else await super().run(s, sql)


# three ways to say 5, drawn once each, and one to say 4, drawn twice
FINALS = ["<f>select 4</f>", "<f>select max(x) from n</f>", "<f>select 5</f>", "<f>select 4</f>", "<f>select 2 + 3</f>"]


async def test_answers_agree_by_their_results(searched):
    outcome, _ = await searched(ReExSQL(leaves=5, width=5, **TAGS), {"": FINALS})
    assert outcome.answer.segment.text == FINALS[1]
    assert [node.notes["votes"] for node in outcome.tree.answers()] == [2, 3, 3, 3]
    broken, _ = await searched(ByText(leaves=5, width=5, **TAGS), {"": FINALS})
    assert broken.answer.segment.text == FINALS[0], "the test would see it"


async def test_rows_that_are_not_shown_count(searched):
    finals = ["<f>select x from n</f>", "<f>select min(x, 4) from n</f>", "<f>select min(x, 4) as y from n</f>"]
    outcome, _ = await searched(ReExSQL(leaves=3, width=3, **TAGS), {"": finals})
    assert outcome.answer.segment.text == finals[1]


async def test_failures_abstain(searched):
    finals = ["<f>select a</f>", "<f>select b</f>", "<f>select a </f>", "none", "<f>select 1</f>"]
    outcome, _ = await searched(ReExSQL(leaves=5, width=5, **TAGS), {"": finals})
    assert outcome.answer.segment.text == "<f>select 1</f>"
    outcome, _ = await searched(ReExSQL(leaves=2, width=2, **TAGS), {"": finals[:2]})
    assert outcome.answer is not None, "all fail: one of them all the same"


@pytest.mark.parametrize("seed", range(6))
async def test_never_more_leaves_than_asked_for(seed, searched):
    rng = random.Random(seed)
    search = ReExSQL(leaves=rng.randint(1, 7), width=rng.randint(1, 4), rounds=rng.randint(1, 4), **TAGS)
    queries = [f"<q>select {i}</q>" for i in range(3)]
    outcome, _ = await searched(search, {"": [*queries, "<f>select 1</f>"], "</r>": [*queries, "<f>select 2</f>"]})
    leaves = [node for node in outcome.tree if not node.children and not node.pruned]
    assert 1 <= len(outcome.tree.answers()) <= len(leaves) <= search.leaves


def test_places():
    assert ReExSQL(width=2).places(3, 8) == [2, 2, 2] and ReExSQL(width=3).places(3, 6) == [3, 2, 1]
    assert ReExSQL(width=2).places(3, 1) == [1, 1, 1]


@pytest.mark.parametrize(
    "wrong", [{"leaves": 0}, {"width": 0}, {"rounds": 0}, {"query": ("a", "")}, {"result": ("a",)}]
)
def test_settings(wrong):
    with pytest.raises(ConfigError):
        ReExSQL(**wrong)
