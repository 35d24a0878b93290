"""The table of all searches at one limit: its settings compose, its arithmetic is right, its options are checked."""

import json

import pytest

from experiments.commandline import CONF
from experiments.compare import SETTINGS, TASKS, UNSAMPLED, main, overrides, report
from experiments.parts import Parts

NAMES = sorted(path.stem for path in (CONF / "search").glob("*.yaml"))


OTHERS = {"flat", "reex_sql"}  # no method by itself; and one for questions with a database


@pytest.mark.parametrize("search", [name for name in NAMES if name not in OTHERS])
def test_every_search_is_compared_and_its_settings_are_valid(search, settings):
    assert search in SETTINGS
    for task in TASKS:
        parts = Parts.of(settings(*overrides(search, task, "1024", "", "somewhere")))
        assert (parts.limits["generated"], parts.strict, parts.seeds) == (
            1024,
            True,
            (0,) if search in UNSAMPLED else (0, 1, 2),
        )


def test_no_settings_are_left_of_a_search_that_is_gone():
    assert set(SETTINGS) <= set(NAMES)


def run_folder(path, task, search, right, tokens):
    path.mkdir()
    rows = [
        {"item": f"{task}-{i}", "task": task, "search": search, "seed": 0, "correct": ok, "wall": 1.0}
        | {"answer": "1", "score": None, "stopped": "done", "nodes": 2, "depth": 1, "candidates": 1}
        | {"cost": {"generated": tokens, "passes": 4}, "error": None, "trace": None}
        for i, ok in enumerate(right)
    ]
    (path / "run.json").write_text(json.dumps({"configuration": {}, "fingerprints": {}}))
    (path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_table_holds_each_search_against_best_of_n_on_the_same_items(tmp_path):
    run_folder(tmp_path / "a-best_of_n", "a", "best_of_n", [True, False, False, False], 100)
    run_folder(tmp_path / "b-best_of_n", "b", "best_of_n", [True, True, True], 100)
    run_folder(tmp_path / "a-beam", "a", "beam", [True, True, False, False], 50)
    head, _, first, second = report(tmp_path).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, first, second)]
    assert cells[0][:3] == ["search", "a", "b"]
    assert [row[0] for row in cells[1:]] == ["best_of_n", "beam"]
    assert cells[1][1:3] == ["25.0", "100.0"] and cells[1][4] == "-"
    assert cells[2][1:3] == ["50.0", "-"] and cells[2][4].startswith("+25.0 [")
    assert cells[2][5:7] == ["50", "4.0"]


def test_an_option_there_is_not_is_one_sentence(capsys):
    assert main(["buget=3"]) == 2
    assert "buget" in capsys.readouterr().err


def test_only_report_is_needed_for_the_table(tmp_path, capsys):
    run_folder(tmp_path / "a-best_of_n", "a", "best_of_n", [True], 100)
    assert main(["report", f"out={tmp_path}"]) == 0
    assert "best_of_n" in capsys.readouterr().out
