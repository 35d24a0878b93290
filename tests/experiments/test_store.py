"""The run folder survives whatever kills its writer, and takes only what belongs to it."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.rows import Row, columns, read_rows
from experiments.store import differences, opened, read_run
from search.errors import ConfigError
from search.types import Cost

RUN = {
    "configuration": {"task": {"name": "toy"}, "search": {"width": 4}, "limit": 3, "seed": 0},
    "fingerprints": {"policy": "toy-1"},
    "versions": {"treewise": "0"},
}


def row(item: str = "a", seed: int = 0, **changes: object) -> Row:
    return replace(Row(item, "toy", "Beam", seed, "42", True, 0.5, cost=Cost(generated=7), nodes=3), **changes)


def test_a_row_has_the_fields_scripts_rely_on():
    names = "item task search seed answer correct score stopped cost wall nodes depth candidates error trace"
    assert " ".join(columns()) == names
    assert list(json.loads(row().to_json())) == columns()


@given(st.builds(row, item=st.text(), answer=st.none() | st.text(), score=st.none() | st.floats(0, 1)))
def test_a_row_survives_its_file(each):
    assert "\n" not in each.to_json()
    assert Row.from_json(each.to_json()) == each


def test_a_score_that_was_never_given_is_null():
    assert json.loads(row(score=float("nan")).to_json())["score"] is None


@pytest.mark.parametrize("line", ["", "{}", "[]", "7", '{"item": "a", "cost": {"no_such_cost": 1}}'])
def test_what_is_not_a_row_is_refused(line):
    with pytest.raises(ValueError):
        Row.from_json(line)


def test_a_folder_cut_at_any_byte_opens_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)  # nothing here pulls the plug
    with opened(tmp_path / "whole") as store:
        store.begin(RUN)
        for item in "abc":
            store.append(row(item, answer="ü\ud800"))
    data = (tmp_path / "whole" / "results.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        (tmp_path / "whole" / "results.jsonl").write_bytes(data[:cut])
        with opened(tmp_path / "whole") as store:
            kept = sum(end <= cut for end in ends)
            assert len(store.rows) == kept
            for item in "abc"[kept:]:
                store.append(row(item, answer="ü\ud800"))
        assert (tmp_path / "whole" / "results.jsonl").read_bytes() == data


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    with opened(tmp_path / "run") as store:
        store.begin(RUN)
        store.append(row("a"))
    with (tmp_path / "run" / "results.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ConfigError, match=r"line 2 of results\.jsonl"):
        read_rows(tmp_path / "run")


def test_the_order_of_rows_is_that_of_the_task(tmp_path):
    with opened(tmp_path / "run") as store:
        store.begin(RUN)
        for item, seed in [("c", 1), ("b", 0), ("c", 0), ("a", 2)]:
            store.append(row(item, seed))
        store.settle(["b", "a", "c"])
    assert [each.key for each in read_rows(tmp_path / "run")] == [("b", 0), ("a", 2), ("c", 0), ("c", 1)]


def test_rows_with_errors_can_be_dropped(tmp_path):
    with opened(tmp_path / "run") as store:
        store.begin(RUN)
        store.append(row("a"))
        store.append(row("b", error="PolicyError: gone"))
        assert store.forget_errors() == 1
    assert [each.item for each in read_rows(tmp_path / "run")] == ["a"]


def test_the_same_settings_may_go_on_and_free_ones_may_change(tmp_path):
    with opened(tmp_path / "run") as store:
        store.begin(RUN)
    again = {
        **RUN,
        "configuration": {**RUN["configuration"], "limit": 9, "seed": [1, 2]},
        "versions": {"treewise": "1"},
    }
    with opened(tmp_path / "run") as store:
        store.begin(again)
    run = read_run(tmp_path / "run")
    assert run["configuration"]["limit"] == 3
    assert run["resumed"] == [{"versions": {"treewise": "1"}}]


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("configuration", {**RUN["configuration"], "search": {"width": 8}}, "search.width is 4 there and 8 here"),
        ("configuration", {"task": {"name": "toy"}}, "search.width is 4 there and absent here"),
        ("fingerprints", {"policy": "toy-2"}, 'policy is "toy-1" there and "toy-2" here'),
    ],
)
def test_another_run_in_the_same_folder_is_refused(tmp_path, part, value, says):
    with opened(tmp_path / "run") as store:
        store.begin(RUN)
    with opened(tmp_path / "run") as store, pytest.raises(ConfigError) as refused:
        store.begin({**RUN, part: value})
    assert says in str(refused.value)


def test_differences_of_equal_settings_are_none():
    assert differences(RUN["configuration"], RUN["configuration"]) == []


def _hold(folder, ready, leave):
    with opened(folder):
        ready.set()
        leave.wait(30)


def test_two_processes_cannot_write_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "run", ready, leave))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(ConfigError, match="another process"), opened(tmp_path / "run"):
            pass
    finally:
        leave.set()
        other.join(30)
    with opened(tmp_path / "run"):
        pass


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"thesis\.tex"), opened(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"), opened(tmp_path / "file"):
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [(None, "holds no run.json"), ("{", "is broken"), ("[]", "is broken"), ('{"version": 99}', "version 99")],
)
def test_a_folder_that_is_no_run_is_named(tmp_path, text, says):
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_run(tmp_path)


def test_file_names_of_different_items_differ(tmp_path):
    with opened(tmp_path / "run") as store:
        items = ["a/b", "a_b", "a b", "../x", "x", "", "." * 5, "é" * 300, "é" * 301]
        paths = [store.journal(item, 0) for item in items]
        assert len(set(paths)) == len(items)
        assert all(path.parent == tmp_path / "run" / "journals" and len(path.name) < 120 for path in paths)
