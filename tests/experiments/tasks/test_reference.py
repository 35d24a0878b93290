"""The reference domain: where its problems come from, and how answers are graded and counted equal."""

import asyncio
import json
import logging
from fractions import Fraction

import pytest

from experiments.item import Checks, Item
from experiments.problems import countdown as problems
from experiments.tasks import Arithmetic, Countdown, Game24, cut
from experiments.tasks.reference import WELL_KNOWN
from search.errors import ConfigError
from verifiers.checked import Checked
from verifiers.grade.steps import reachable, state

SOLVED = {
    (4, 9, 10, 13): "(13-9)*(10-4)",
    (3, 3, 8, 8): "8/(3-8/3)",
    (1, 5, 5, 5): "5*(5-1/5)",
    (1, 3, 4, 6): "6/(1-3/4)",
}


def grade(task, item: Item, text: str) -> str:
    return asyncio.run(task.grade(item, text)).verdict


def test_every_well_known_puzzle_can_be_solved_and_most_without_fractions():
    assert len(WELL_KNOWN) == len({tuple(sorted(numbers)) for numbers in WELL_KNOWN}) == 20
    assert all(reachable(state(numbers), Fraction(24)) for numbers in WELL_KNOWN)
    plain = [24 in problems.reachable(tuple(sorted(numbers))) for numbers in WELL_KNOWN]
    assert plain == [True] * 16 + [False] * 4


def test_game24_without_data_says_where_its_puzzles_come_from(caplog):
    with caplog.at_level(logging.INFO):
        items = Game24().items()
    assert [item.fields["numbers"] for item in items] == list(WELL_KNOWN)
    assert len({item.id for item in items}) == 20 and "20 well-known puzzles" in caplog.text


def test_game24_from_data(data, caplog):
    for folder in (data, data / "benchmarks"):
        with caplog.at_level(logging.INFO):
            items = Game24(data=str(folder)).items()
        assert len(items) == 1362 and "game24.jsonl" in caplog.text
        assert items[0] == Item(
            "game24-1", "game24", "Make 24 from 1 1 4 6.", None, {"numbers": (1, 1, 4, 6), "target": 24, "rank": 1}
        )


def test_the_data_folder_may_come_from_the_environment(data, monkeypatch):
    monkeypatch.setenv("TREEWISE_DATA", str(data))
    assert len(Game24().items()) == 1362 and len(Countdown(source="data").items()) == 500


def test_puzzles_from_a_folder_without_them(tmp_path):
    for task in (Game24(data=str(tmp_path)), Countdown(source="data", data=str(tmp_path)), Countdown(source="data")):
        with pytest.raises(ConfigError, match="data=DIR"):
            task.items()
    with pytest.raises(ConfigError, match="no such folder"):
        Game24(data=str(tmp_path / "absent")).items()


@pytest.mark.parametrize(
    "row",
    [
        {"id": "a", "target": 24},
        {"id": "a", "numbers": [], "target": 24},
        {"id": "a", "numbers": ["4"], "target": 24},
        {"id": "a", "numbers": [4, -1], "target": 24},
        {"id": "a", "numbers": [4, 6]},
        {"numbers": [4, 6], "target": 24},
    ],
)
def test_malformed_puzzles(row, tmp_path):
    good = json.dumps({"id": "x", "numbers": [4, 6], "target": 24})
    (tmp_path / "game24.jsonl").write_text(f"{good}\n{json.dumps(row)}\n")
    with pytest.raises(ConfigError, match=r"game24\.jsonl.*line 2"):
        Game24(data=str(tmp_path)).items()


def test_held_out_problems_are_held_out_and_fixed():
    items = Countdown(count=40).items()
    assert items == Countdown(count=60).items()[:40] and len({item.id for item in items}) == 40
    for item in items:
        puzzle = problems.Puzzle(item.fields["numbers"], item.fields["target"])
        assert problems.held_out(puzzle) and not problems.public(puzzle)
        assert item.question == puzzle.question and reachable(state(puzzle.numbers), Fraction(puzzle.target))
    assert Arithmetic(count=5).items() == Arithmetic(count=9).items()[:5]


@pytest.mark.parametrize(("numbers", "expression"), SOLVED.items())
def test_puzzles_are_graded_by_the_checker(numbers, expression):
    task = Game24()
    item = next(item for item in task.items() if item.fields["numbers"] == numbers)
    assert isinstance(task, Checks) and not isinstance(Arithmetic(), Checks)
    for text, verdict in [(rf"\boxed{{{expression}}}", "right"), (r"\boxed{24}", "wrong"), ("", "unparsable")]:
        assert grade(task, item, text) == verdict and task.check(item, text) == (verdict == "right")


def test_asked_questions_are_puzzles_too_if_they_read_like_one():
    asked = Item("q", "game24", "Make 10 from 2 3 4.", None)
    assert grade(Game24(), asked, r"\boxed{2*3+4}") == "right" and Game24().check(asked, r"\boxed{2*3+4}")
    other = Item("q", "game24", "What is the meaning of it all?", None)
    assert grade(Game24(), other, r"\boxed{42}") == "unknown" and not Game24().check(other, r"\boxed{42}")


def test_arithmetic_is_graded_by_value():
    task = Arithmetic(count=3)
    for item in task.items():
        assert item.answer is not None
        assert grade(task, item, rf"\boxed{{{item.answer}}}") == "right"
        assert grade(task, item, rf"\boxed{{{int(item.answer) + 1}}}") == "wrong"
        assert grade(task, item, "no box") == "unparsable"
    assert grade(task, Item("q", "arithmetic", "Compute 7/2.", None), r"\boxed{3.5}") == "right"
    assert grade(task, Item("q", "arithmetic", "How many?", None), r"\boxed{3.5}") == "unknown"


def test_votes():
    texts = [r"\boxed{(13-9)*(10-4)}", r"\boxed{(10-4)*(13-9)}", r"\boxed{24}", ""]
    assert asyncio.run(Game24().classes(texts)) == [0, 0, 1, None]
    assert asyncio.run(Arithmetic().classes([r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{2}", ""])) == [0, 0, 1, None]


def test_the_prompt_is_the_bare_question():
    for task in (Game24(), Countdown(count=1), Arithmetic(count=1)):
        item = task.items()[0]
        assert task.messages(item) == [{"role": "user", "content": item.question}]


def test_checked_finds_the_checker_of_every_puzzle():
    item = Game24().items()[0]
    assert Checked(None).bind(item).check(rf"\boxed{{{SOLVED[item.fields['numbers']]}}}")  # type: ignore[arg-type]
    assert Checked(None).bind(Arithmetic(count=1).items()[0]).check is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "settings", "field"),
    [
        (Countdown, {"source": "web"}, "source"),
        (Countdown, {"count": 0}, "count"),
        (Arithmetic, {"count": -1}, "count"),
    ],
)
def test_wrong_settings_are_refused(task, settings, field):
    with pytest.raises(ConfigError, match=field):
        task(**settings)


def test_cut():
    items = Arithmetic(count=5).items()
    assert (
        cut(items) == items and cut(items, 2) == items[:2] and cut(items, 2, 4) == items[4:] and cut(items, 9) == items
    )
    for limit, offset, field in [(0, 0, "limit"), (-1, 0, "limit"), (None, 5, "offset"), (1, -1, "offset")]:
        with pytest.raises(ConfigError, match=field):
            cut(items, limit, offset)
