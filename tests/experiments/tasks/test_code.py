"""Tasks of programs on rows made here, and on the benchmarks where they are at hand."""

# ruff: noqa: E501 (programs in tables)

import json
import os
from types import SimpleNamespace

import pytest

from experiments.item import Item
from experiments.tasks.code import MBPP, Codeforces, HumanEval, LiveCodeBench, examples
from search.errors import ConfigError, VerifierError
from search.types import Finish, Prefix, Segment
from verifiers.programs import PublicTests
from verifiers.testing import check_verifier

FULL = os.environ.get("TREEWISE_FULL") == "1"
PROMPT = (
    'import math\n\ndef double(x):\n    """Twice x.\n    >>> double(2)\n    4\n    >>> double(0.5)\n    1.0\n    """\n'
)
ROWS = {
    LiveCodeBench: {
        "id": "a", "prompt": "Add one.", "test_type": "stdin", "fn_name": None, "starter_code": "", "platform": "x",
        "public_tests": [{"input": "1", "output": "2"}], "extra_tests": [{"input": "2", "output": "3"}],
    },
    HumanEval: {"id": "b", "prompt": PROMPT, "entry_point": "double", "test_code": "def check(c):\n    assert c(3) == 6"},
    MBPP: {
        "id": "c", "prompt": "Write a function to double.", "entry_point": "double", "test_setup": "",
        "tests": ["assert double(1) == 2", "assert double(2) == 4"],
    },
    Codeforces: {"id": "d", "prompt": "Add one.", "tests": [{"input": "1", "output": "2"}, {"input": "2", "output": "3"}]},
}  # fmt: skip
ADD = "print(int(input()) + 1)"
ANSWERS = {
    LiveCodeBench: (ADD, "input()\nprint(2)"),
    HumanEval: ("def double(x):\n    return 2 * x", "def double(x):\n    return {2: 4, 0.5: 1}.get(x)"),
    MBPP: ("def double(x):\n    return 2 * x", "def double(x):\n    return x + 1"),
    Codeforces: (ADD, "input()\nprint(2)"),
}


def fenced(code):
    return f"Here it is:\n```python\n{code}\n```"


@pytest.fixture
def made(tmp_path):
    def make(task):
        (tmp_path / f"{task.file}.jsonl").write_text(json.dumps(ROWS[task]))
        built = task(data=str(tmp_path), cpu=2.0)
        return built, built.items()[0]

    return make


def prefix(text, finish=Finish.END):
    return Prefix(Segment((0,), "q"), (Segment((1,), text, finish=finish),))


@pytest.mark.parametrize("task", ROWS, ids=lambda task: task.name)
async def test_public_tests_are_seen_and_hidden_ones_decide(task, made):
    built, item = made(task)
    right, plausible = map(fenced, ANSWERS[task])
    assert (await built.grade(item, right)).verdict == "right"
    grade = await built.grade(item, plausible)
    assert grade.verdict == "wrong" and grade.answer == ANSWERS[task][1] and grade.reason.startswith("wrong: test")
    assert (await built.grade(item, "")).verdict == "unparsable"
    verifier = PublicTests(cpu=2.0).bind(item)
    found = await verifier.score([prefix(right), prefix(plausible), prefix(fenced("x")), prefix("def", Finish.STEP)])
    assert [verdict.value for verdict in found] == [1.0, 1.0, 0.0, 0.5]
    assert [verdict.cost.passes for verdict in found] == [1, 1, 1, 0]


async def test_the_verifier_keeps_the_laws(made):
    _, item = made(MBPP)
    await check_verifier(PublicTests(cpu=2.0).bind(item), [prefix(fenced(code)) for code in ("x", ANSWERS[MBPP][0])])


async def test_shares_of_tests(made):
    _, item = made(HumanEval)
    (half,) = await PublicTests(cpu=2.0).bind(item).score([prefix(fenced("def double(x):\n    return 4"))])
    assert half.value == 0.5


async def test_open_prefixes_may_be_refused(made):
    _, item = made(MBPP)
    verifier = PublicTests(open=None, cpu=2.0).bind(item)
    with pytest.raises(VerifierError, match=r"verifier\.open"):
        await verifier.score([prefix("def", Finish.STEP)])
    with pytest.raises(ConfigError, match="task of programs"):
        PublicTests().bind(Item("x", "toy", "?"))
    with pytest.raises(ConfigError, match="no public tests"):
        PublicTests(open=None).bind(SimpleNamespace(id="x", fields={"public": {"tests": []}}))
    with pytest.raises(ConfigError):
        PublicTests(open=2.0)


async def test_a_machine_without_isolation_is_an_error_not_a_verdict(made, monkeypatch):
    from verifiers.grade.code.sandbox import Sandbox

    monkeypatch.setattr(Sandbox, "_start", lambda self, kind: "forbidden here")
    built, item = made(MBPP)
    other = MBPP(data=built.data, cpu=1.7)  # a pool of its own
    with pytest.raises(VerifierError, match="forbidden here"):
        await other.grade(item, fenced(ANSWERS[MBPP][0]))


async def test_votes(made):
    built, _ = made(MBPP)
    texts = [fenced("x = 1"), fenced("x = (1) # one"), fenced("x = 2"), ""]
    assert await built.classes(texts) == [0, 0, 1, None]


@pytest.mark.parametrize("task", ROWS, ids=lambda task: task.name)
def test_questions_show_no_hidden_test(task, made):
    built, item = made(task)
    asked = built.messages(item)[0]["content"]
    assert "```python" in asked and "== 6" not in asked and "double(2) == 4" not in asked and item.answer is None
    assert "hidden" not in item.fields


def test_examples_of_docstrings():
    assert list(examples(PROMPT, "double")) == ["assert (double(2)) == (4)", "assert (double(0.5)) == (1.0)"]
    other = PROMPT.replace("4\n", "two things\n").replace("double(0.5)", "half(0.5)")
    assert list(examples(other, "double")) == [] == list(examples("no code", "double"))


@pytest.mark.parametrize("task", ROWS, ids=lambda task: task.name)
def test_what_is_missing_is_said(task, tmp_path):
    with pytest.raises(ConfigError, match=task.file):
        task(data=str(tmp_path)).items()
    (tmp_path / f"{task.file}.jsonl").write_text('{"id": "a", "prompt": "x"}')
    with pytest.raises(ConfigError, match="line 1 has no"):
        task(data=str(tmp_path)).items()


@pytest.mark.parametrize(
    ("task", "count"), [(LiveCodeBench, 1055), (HumanEval, 164), (MBPP, 500), (Codeforces, 408)], ids=lambda x: str(x)
)
def test_benchmarks_from_data(task, count, data):
    items = task(data=str(data)).items()
    assert len(items) == len({item.id for item in items}) == count
    assert all(item.question.strip() for item in items)


@pytest.mark.parametrize("task", [HumanEval, MBPP], ids=lambda task: task.name)
async def test_references_pass(task, data):
    """A few of them; all in a full run."""
    built = task(data=str(data))
    path = data / "benchmarks" / f"{task.file}.jsonl"
    rows = {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    for item in built.items()[:: 1 if FULL else 60]:
        row = rows[item.id]
        code = (row["prompt"] if task is HumanEval else "") + row["reference_solution"]
        assert (await built.grade(item, fenced(code))).verdict == "right", item.id
        (seen,) = await PublicTests().bind(item).score([prefix(fenced(code))])
        assert seen.value == (1.0 if item.fields["public"]["tests"] else 0.5), item.id
