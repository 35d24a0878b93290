"""Benchmarks from a folder or the hub, files of one's own, and what is said when something is wrong with them."""

import asyncio
import gzip
import json
import sys
from types import SimpleNamespace

import pytest

from experiments.item import Item
from experiments.tasks import GSM8K, Aime24, Aime25, Jsonl, Math500
from search.errors import ConfigError

ROWS = [{"id": "a", "problem": "1+1?", "answer": "2"}, {"id": 7, "problem": "Say x.", "answer": None}]


def written(path, *lines) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("task", "name", "count", "answer"),
    [
        (GSM8K, "gsm8k", 1319, "18"),
        (Math500, "math500", 500, None),
        (Aime24, "aime24", 30, None),
        (Aime25, "aime25", 30, "70"),
    ],
)
def test_benchmarks_from_data(task, name, count, answer, data):
    items = task(data=str(data)).items()
    assert len(items) == len({item.id for item in items}) == count
    assert all(item.task == name and item.question and item.answer for item in items)
    assert answer is None or items[0].answer == answer
    assert not any("solution" in item.fields for item in items)


def test_compressed_files(tmp_path):
    with gzip.open(tmp_path / "aime24.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"id": "x", "problem": "1+1?", "answer": 2, "year": 2024, "solution": "easy"}))
    assert Aime24(data=str(tmp_path)).items() == [Item("x", "aime24", "1+1?", "2", {"year": 2024})]


def test_without_data_and_library_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"data=DIR.*TREEWISE_DATA.*gsm8k_test\.jsonl.*datasets"):
        GSM8K().items()
    with pytest.raises(ConfigError, match=r"math500\.jsonl is not there"):
        Math500(data=str(tmp_path)).items()


def hub(monkeypatch, rows):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        if isinstance(rows, Exception):
            raise rows
        return rows

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_the_hub_is_asked_where_there_is_no_file(monkeypatch):
    asked = hub(monkeypatch, [{"question": "How many?", "answer": "3*4=<<3*4=12>>12\n#### 1,012"}])
    assert GSM8K().items() == [Item("gsm8k-test-0", "gsm8k", "How many?", "1,012")]
    assert asked == [("openai/gsm8k", "main", "test")]
    row = {
        "problem": "p",
        "answer": "2",
        "solution": "s",
        "unique_id": "test/algebra/1.json",
        "subject": "Algebra",
        "level": 1,
    }
    hub(monkeypatch, [row])
    assert Math500().items() == [Item("test/algebra/1.json", "math500", "p", "2", {"subject": "Algebra", "level": 1})]
    hub(monkeypatch, [{"id": 0, "problem": "p", "answer": 70}])
    assert Aime25().items() == [Item("aime25-0", "aime25", "p", "70")]


def test_a_hub_out_of_reach_is_a_clear_error(monkeypatch):
    hub(monkeypatch, ConnectionError("no route\nto host"))
    with pytest.raises(ConfigError, match=r"downloading HuggingFaceH4/aime_2024 failed \(ConnectionError: no route\)"):
        Aime24().items()


def test_own_files(tmp_path):
    task = Jsonl(path=written(tmp_path / "own.jsonl", "\ufeff" + json.dumps(ROWS[0]), "", ROWS[1]))
    assert task.items() == [Item("a", "jsonl", "1+1?", "2"), Item("7", "jsonl", "Say x.", None)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{oops", "line 2 is no JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ({"problem": "p", "answer": "1"}, 'line 2 has no "id"'),
        ({"id": "", "problem": "p", "answer": "1"}, 'line 2 has no "id"'),
        ({"id": True, "problem": "p", "answer": "1"}, 'line 2 has no "id"'),
        ({"id": "b", "answer": "1"}, 'line 2 has no "problem"'),
        ({"id": "b", "problem": " ", "answer": "1"}, 'line 2 has no "problem"'),
        ({"id": "b", "problem": "p"}, 'line 2 has no "answer"'),
        ({"id": "b", "problem": "p", "answer": ["1"]}, 'line 2 has no "answer"'),
        ({"id": "a", "problem": "p", "answer": "1"}, "line 2 has the id 'a' of line 1"),
    ],
)
def test_malformed_rows_are_named(line, said, tmp_path):
    path = written(tmp_path / "own.jsonl", ROWS[0], line)
    with pytest.raises(ConfigError) as caught:
        Jsonl(path=path).items()
    assert said in str(caught.value) and path in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match=r"task\.path=FILE"):
        Jsonl()
    with pytest.raises(ConfigError, match="no such file"):
        Jsonl(path=str(tmp_path / "absent.jsonl")).items()
    with pytest.raises(ConfigError, match="no rows"):
        Jsonl(path=written(tmp_path / "empty.jsonl", "")).items()
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        Jsonl(path=str(tmp_path / "binary.jsonl")).items()
    (tmp_path / "fake.jsonl.gz").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        Jsonl(path=str(tmp_path / "fake.jsonl.gz")).items()


def test_malformed_benchmark_files_are_named(tmp_path):
    written(tmp_path / "aime25.jsonl", {"id": "x", "problem": "p", "answer": "1"}, {"id": "y", "problem": "p"})
    with pytest.raises(ConfigError, match=r"aime25\.jsonl.*line 2 lacks"):
        Aime25(data=str(tmp_path)).items()


def test_prompts(tmp_path):
    item = Item("a", "gsm8k", "How many?", "2")
    ((message),) = GSM8K().messages(item)
    assert message["content"].startswith("How many?\n\n") and "\\boxed{}" in message["content"]
    assert GSM8K(instruction="").messages(item) == [{"role": "user", "content": "How many?"}]
    own = Jsonl(path=written(tmp_path / "own.jsonl", ROWS[0]))
    for question in ("Make 24 from 4 9 10 13.", "Compute 1+2*3."):
        assert own.messages(Item("a", "jsonl", question)) == [{"role": "user", "content": question}]


def test_grades_and_votes(tmp_path):
    async def scene() -> None:
        task = Math500()
        item = Item("a", "math500", "?", r"\frac{1}{2}")
        assert (await task.grade(item, r"so \boxed{0.5}")).verdict == "right"
        assert (await task.grade(item, r"so \boxed{2}")).verdict == "wrong"
        assert (await task.grade(item, "")).verdict == "unparsable"
        unknown = await task.grade(Item("a", "math500", "?"), r"so \boxed{2}")
        assert (unknown.verdict, unknown.answer) == ("unknown", "2")
        assert await task.classes([r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{2}", ""]) == [0, 0, 1, None]
        own = Jsonl(path=written(tmp_path / "own.jsonl", ROWS[0]))
        puzzle = Item("p", "jsonl", "Make 24 from 4 9 10 13.", "24")
        assert (await own.grade(puzzle, r"\boxed{24}")).verdict == "wrong"  # equal to 24, and no solution
        assert (await own.grade(puzzle, r"\boxed{(13-9)*(10-4)}")).verdict == "right"

    asyncio.run(scene())
