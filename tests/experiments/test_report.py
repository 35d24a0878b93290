"""The arithmetic of the report, on tables small enough to do by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.report import bootstrap, compare, main, summarise
from experiments.rows import Row
from experiments.store import opened
from search.types import Cost


def row(item: str, correct: bool | None, tokens: int = 10, passes: int = 2, seed: int = 0, **more: object) -> Row:
    return Row(item, "toy", "Beam", seed, "1", correct, cost=Cost(generated=tokens, passes=passes), wall=0.5, **more)


def test_a_summary_by_hand():
    rows = [row("a", True, 10), row("b", False, 30), row("c", True, 20), row("d", None, 40, error="PolicyError: x")]
    s = summarise("run", rows)
    assert (s.items, s.seeds, s.graded, s.errors) == (4, 1, 3, 1)
    assert s.accuracy.mean == pytest.approx(2 / 3)
    assert (s.generated, s.passes, s.wall) == (25, 2, 0.5)


def test_seeds_of_an_item_are_averaged_first():
    rows = [row("a", True, seed=s) for s in range(9)] + [row("b", False)]
    assert summarise("run", rows).accuracy.mean == pytest.approx(0.5)


def test_equal_values_have_no_interval():
    interval = bootstrap([1.0] * 20)
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        interval = bootstrap((rng.random(100) < 0.3).astype(float), resamples=300)
        covered += interval.low <= 0.3 <= interval.high
    assert 180 <= covered <= 199


def test_nothing_graded_is_not_a_number():
    assert np.isnan(summarise("run", [row("a", None)]).accuracy.mean)


def test_a_paired_difference_by_hand():
    a = [row("x", False, 10), row("y", False, 10), row("z", True, 10), row("only a", True, 1000)]
    b = [row("z", True, 5), row("y", True, 5), row("x", False, 5), row("only b", False, 1000)]
    pair = compare("a", a, "b", b)
    assert pair.rows == 3
    assert pair.accuracy.mean == pytest.approx(1 / 3)
    assert (pair.generated, pair.passes) == (0.5, 1)


def test_pairs_are_of_one_item_and_one_seed():
    assert compare("a", [row("x", True, seed=0)], "b", [row("x", True, seed=1)]) is None


def write(folder, rows):
    with opened(folder) as store:
        store.begin({"configuration": {}, "fingerprints": {}})
        for each in rows:
            store.append(each)
    return str(folder)


def test_both_formats_tell_the_same(tmp_path, capsys):
    a = write(tmp_path / "a", [row("x", True, 12_000), row("y", False, 12_000)])
    b = write(tmp_path / "b", [row("x", True, 6_000), row("y", True, 6_000)])
    assert main([a, b, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [run["accuracy"]["mean"] for run in report["runs"]] == [0.5, 1]
    assert report["pairs"][0]["generated"] == 0.5
    assert main([a, b]) == 0
    text = capsys.readouterr().out
    assert "12,000" in text and "+50.0 [" in text and "| a " in text


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    a = write(tmp_path / "one" / "run", [row("x", True)])
    b = write(tmp_path / "two" / "run", [row("x", True)])
    assert main([a, b, "--format", "json"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["one/run", "two/run"]


@pytest.mark.parametrize("make", ["nothing", "empty", "no rows", "broken"])
def test_a_folder_that_is_no_run_is_one_sentence(tmp_path, capsys, make):
    folder = tmp_path / "run"
    if make != "nothing":
        folder.mkdir()
    if make in ("no rows", "broken"):
        write(folder, [])
    if make == "broken":
        (folder / "results.jsonl").write_text("{\n")
    assert main([str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(folder.name) in err
