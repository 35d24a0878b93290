"""The main job, as scripts and users meet it: rows, folders, exit status, sentences."""

from __future__ import annotations

import json
import re
import sys

import pytest

from experiments.parts import Parts
from experiments.rows import columns, read_rows
from experiments.solve import main
from experiments.store import read_run
from experiments.trace import read_tree
from policies.toy import Toy


def test_a_run_leaves_rows_a_record_and_traces(tmp_path, capsys, solve):
    out = tmp_path / "run"
    assert solve("search=beam", "limit=3", "offset=1", "seed=[4,5]", f"out={out}") == 0
    rows = read_rows(out)
    assert [row.key for row in rows] == [(f"toy-{i}", seed) for i in (2, 3, 4) for seed in (4, 5)]
    assert list(json.loads((out / "results.jsonl").read_text().splitlines()[0])) == columns()
    for row in rows:
        assert (row.task, row.search, row.stopped, row.error) == ("toy", "beam", "done", None)
        assert row.correct == (row.answer == "abcab")
        tree = read_tree(out / row.trace)
        assert (row.nodes, row.depth, row.cost.generated) == (len(tree), tree.depth, tree.cost.generated)
        assert row.candidates == sum(node.times for node in tree.answers())
    run = read_run(out)
    assert run["configuration"]["search"]["beams"] == 4
    assert run["fingerprints"]["policy"] == Toy(end=0.1).fingerprint
    assert {"versions", "git", "command", "started"} <= run.keys()
    table = capsys.readouterr().out
    assert "toy-2" in table and "accuracy" in table and str(out / "traces") in table


@pytest.mark.parametrize(
    ("search", "temperature", "select"),
    [
        ("greedy", 0.0, "First"),
        ("majority", 0.8, "Majority"),
        ("weighted", 0.8, "Weighted"),
        ("best_of_n", 0.8, "Best"),
        ("first_finish", 0.8, "First"),
        ("astar", 0.8, "Best"),
    ],
)
def test_a_search_brings_its_sampling_and_its_selection(search, temperature, select, settings):
    composed = settings("debug=toy", f"search={search}")
    assert composed["steps"]["temperature"] == temperature
    assert composed["select"]["_target_"] == f"search.select.{select}"


def test_what_the_user_says_comes_last(settings):
    composed = settings("debug=toy", "search=greedy", "select=majority", "steps.temperature=0.5", "search.n=8")
    assert composed["steps"]["temperature"] == 0.5
    assert composed["select"]["_target_"] == "search.select.Majority"
    assert composed["search"]["n"] == 8


def test_dvts_has_as_many_subtrees_as_beams(settings):
    assert settings("debug=toy", "search=dvts", "search.beams=6")["search"]["subtrees"] == 6


def test_the_same_command_again_does_nothing(tmp_path, capsys, solve):
    assert solve("limit=2", f"out={tmp_path / 'run'}") == 0
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    capsys.readouterr()
    assert solve("limit=2", f"out={tmp_path / 'run'}") == 0
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before
    assert "toy-2" in capsys.readouterr().out


def test_a_run_grows_by_items_and_seeds(tmp_path, solve, without_times):
    grown, whole = tmp_path / "grown", tmp_path / "whole"
    for more in (["limit=2"], ["limit=4"], ["limit=4", "seed=[1,0]"]):
        assert solve(*more, f"out={grown}") == 0
    assert solve("limit=4", "seed=[0,1]", f"out={whole}", "concurrency=1") == 0
    assert without_times(grown) == without_times(whole)


def test_rows_do_not_depend_on_how_many_are_in_work(tmp_path, solve, without_times):
    for concurrency in (1, 3, 16):
        assert solve("search=astar", f"concurrency={concurrency}", f"out={tmp_path / str(concurrency)}") == 0
    assert without_times(tmp_path / "1") == without_times(tmp_path / "3") == without_times(tmp_path / "16")


def test_a_limit_is_named_and_the_best_so_far_is_kept(tmp_path, solve):
    assert solve("budget.generated=40", "search=flat", "search.parallel=1", "limit=4", f"out={tmp_path / 'run'}") == 0
    for row in read_rows(tmp_path / "run"):
        assert row.stopped == "generated"
        assert row.candidates >= 1 and row.answer
        assert 40 <= row.cost.generated < 48


def test_what_is_kept_is_a_choice(tmp_path, solve):
    for choice, kinds in (("none", []), ("events", ["traces"]), ("all", ["journals", "traces"])):
        assert solve(f"trace={choice}", "limit=1", f"out={tmp_path / choice}") == 0
        assert sorted(path.name for path in (tmp_path / choice).iterdir() if path.is_dir()) == kinds
    assert read_rows(tmp_path / "none")[0].trace is None


def test_a_question_of_any_signs(tmp_path, capsys, solve):
    question = 'What is (1+2)*{3, 4} = x, "sure"? It\'s ${x}$ \\n'
    assert solve(f"question={question}", f"out={tmp_path / 'a=b, c'}") == 0
    (row,) = read_rows(tmp_path / "a=b, c")
    assert read_tree(tmp_path / "a=b, c" / row.trace).root.prefix.question == question
    assert row.correct is None
    assert row.answer in capsys.readouterr().out


def test_a_sweep_gives_each_run_its_folder(tmp_path, monkeypatch, solve):
    monkeypatch.chdir(tmp_path)
    assert solve("search=beam,greedy", "limit=1", "seed=1,2", "-m") == 0
    folders = [path for path in (tmp_path / "runs").iterdir() if path.name != "sweeps"]
    assert len(folders) == 4
    assert {(row.search, row.seed) for folder in folders for row in read_rows(folder)} == {
        ("beam", 1),
        ("beam", 2),
        ("greedy", 1),
        ("greedy", 2),
    }


def test_a_failing_item_is_a_row_and_the_run_goes_on(tmp_path, monkeypatch, solve, without_times):
    sample, broken = Toy.sample, [True]

    async def fails_on_item_2(self, requests):
        if broken and "2?" in requests[0].prefix.prompt.text:
            raise ValueError("the model\nfell over")
        return await sample(self, requests)

    monkeypatch.setattr(Toy, "sample", fails_on_item_2)
    out = f"out={tmp_path / 'run'}"
    assert solve("limit=3", "trace=events", out) == 0
    assert [path.stem for path in (tmp_path / "run" / "journals").iterdir()] == ["toy-2-seed0"], "to go on from"
    rows = {row.item: row for row in read_rows(tmp_path / "run")}
    assert rows["toy-2"].error == "ValueError: the model fell over"
    assert (rows["toy-2"].answer, rows["toy-2"].correct, rows["toy-2"].stopped) == (None, None, "error")
    assert rows["toy-1"].error is None and rows["toy-3"].error is None

    broken.clear()
    assert solve("limit=3", out) == 0
    assert read_rows(tmp_path / "run")[1].error is not None
    assert solve("limit=3", "trace=events", out, "retry_errors=true") == 0
    assert not (tmp_path / "run" / "journals").exists()
    assert solve("limit=3", f"out={tmp_path / 'unbroken'}") == 0
    assert without_times(tmp_path / "run") == without_times(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["task=nope"], r"task='nope' .* choose from .*toy"),
        (["search=nope"], r"search='nope' .* choose from ab_mcts, .*astar, .*weighted"),
        (["nope=1"], r"nope='1' .* choose from .*search"),
        (["+nope=1"], r"nope=1 .* choose from .*search"),
        (["search.nope=1"], r"search\.nope='1' .* choose from .*width"),
        (["+search.nope=1"], r"search\.nope=1 .* no such field"),
        (["steps.until.nope=1"], r"steps\.until\.nope='1' .* choose from count"),
        (["+steps.nope=1"], r"steps\.nope=1 .* no such field"),
        (["+trace.nope=1"], r"trace\.nope=1 .* no such field"),
        (["budget.tokens=5"], r"budget\.tokens='5' .* choose from generated, "),
        (["+budget.tokens=5"], r"budget\.tokens=5 .* choose from generated, "),
        (["budget.generated=-1"], r"budget\.generated=-1 .* at least 0"),
        (["budget.generated=many"], r"budget\.generated='many' .* number"),
        (["budget.strict=3"], r"budget\.strict=3 .* true or false"),
        (["search.width=0"], r"search\.width=0 .* at least 1"),
        (["search.width=four"], r"search\.width='four' .* whole number"),
        (["search.width=null"], r"search\.width=None .* whole number"),
        (["search.frontier=far"], r"search\.frontier='far' .*global"),
        (["search=beam", "search.subtrees=3"], r"search\.subtrees=3 .* divisor"),
        (["search.step_cost.path=search.rules.nope"], r"search\.step_cost=.*search\.rules\.nope"),
        (["search={a:1}"], r"search='\{a:1\}' .*FIELD=VALUE"),
        (["policy._target_=policies.nope.Nope"], r"policy\._target_='policies\.nope\.Nope' .* imported"),
        (["verifier=none"], r"verifier=None .* give a verifier"),
        (["steps.temperature=-1"], r"steps\.temperature=-1 .* at least 0"),
        (["steps.max_whole=0"], r"steps\.max_whole=0 .* at least 1"),
        (["steps.until.count=0"], r"steps\.until\.count=0 .* at least 1"),
        (["seed=1,2"], r"seed=\[1,2\] .* -m"),
        (["seed=-1"], r"seed=-1 .* from 0"),
        (["seed=[1,1]"], r"seed=\[1, 1\] .* different"),
        (["seed=[1"], r"'seed=\[1' cannot be read"),
        (["limit=0"], r"limit=0 .* at least 1"),
        (["offset=20"], r"offset=20 .* has 20 items"),
        (["concurrency=0"], r"concurrency=0 .* at least 1"),
        (["read_ahead=maybe"], r"read_ahead='maybe' .* true or false"),
        (["retry_errors=maybe"], r"retry_errors='maybe' .* true or false"),
        (["nonsense"], r"'nonsense' cannot be read"),
        (["--nonsense"], r"'--nonsense' .* name=value"),
        (["=3"], r"."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_setting_is_one_sentence_and_status_2(tmp_path, monkeypatch, capsys, arguments, says, solve):
    monkeypatch.chdir(tmp_path)
    assert solve(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert re.search(says, err), err
    assert not list(tmp_path.rglob("*.json*")), "a run that never began leaves nothing"


def test_another_run_in_the_same_folder_is_refused(tmp_path, capsys, solve):
    assert solve("limit=1", f"out={tmp_path / 'run'}") == 0
    capsys.readouterr()
    assert solve("limit=1", f"out={tmp_path / 'run'}", "search.width=7") == 2
    assert "search.width is 4 there and 7 here" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "run")) == 1


def test_an_interrupt_before_the_first_item_is_no_traceback(solve, monkeypatch, capsys):
    def interrupted(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "of", interrupted)
    assert solve() == 1
    assert capsys.readouterr().err == "\ninterrupted before the first item\n"


def test_a_fault_of_the_program_is_not_dressed_up_as_one_of_the_user(monkeypatch):
    def faulty(settings):
        raise ValueError("a bug")

    monkeypatch.setattr(Parts, "of", faulty)
    monkeypatch.setattr(sys, "argv", ["solve", "debug=toy"])
    with pytest.raises(ValueError, match="a bug"):
        main()
