"""The main job with models in this process: tiny random checkpoints, made here."""

from __future__ import annotations

import json
import os

import pytest

from experiments.rows import read_rows
from policies import tiny


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny.checkpoint(folder / "policy", end_bias=3.0)
    tiny.reward_model(folder / "prm")
    return [
        *("policy=embedded", f"policy.model={folder / 'policy'}", "policy.threads=1"),
        *("verifier=prm", f"verifier.model={folder / 'prm'}", "verifier.threads=1"),
        *("task=arithmetic", "steps=line", "steps.max_tokens=12", "steps.max_whole=40", "trace=none"),
    ]


def test_rows_do_not_depend_on_what_else_is_in_work(models, solve, tmp_path):
    for concurrency in (1, 6):
        out = f"out={tmp_path / str(concurrency)}"
        settings = ["search=beam", "search.depth=4", "limit=6", f"concurrency={concurrency}", out]
        assert solve(*models, *settings) == 0
    alone, together = read_rows(tmp_path / "1"), read_rows(tmp_path / "6")
    assert [row.item for row in alone] == [row.item for row in together]
    for a, b in zip(alone, together, strict=True):
        assert (a.answer, a.nodes, a.candidates, a.error) == (b.answer, b.nodes, b.candidates, None)
        assert (a.cost.generated, a.cost.passes) == (b.cost.generated, b.cost.passes)
        assert a.score == (None if b.score is None else pytest.approx(b.score, abs=1e-4))
        assert a.cost.generated > 0 and a.cost.prefilled > 0


def test_rows_do_not_depend_on_guesses_or_on_reading_ahead(models, solve, tmp_path):
    plain = [*models, "search=beam", "search.depth=4", "limit=4", "policy.dtype=float64", "verifier.dtype=float64"]
    ways = {
        "plain": [],
        "ahead": ["read_ahead=true", "concurrency=1"],
        "ngram": ["policy.speculate=ngram"],
        "several": [
            "policy.speculate={by:[recycle,ngram],length:always,profile:[0.5,0.2],guesses:4}",
            "read_ahead=true",
        ],
    }
    found = {}
    for name, settings in ways.items():
        assert solve(*plain, *settings, f"out={tmp_path / name}") == 0
        rows = read_rows(tmp_path / name)
        found[name] = [
            (row.answer, row.score, row.nodes, row.cost.generated, row.cost.passes, row.error) for row in rows
        ]
        told = tmp_path / name / "speculation.json"
        assert told.is_file() == any("speculate" in setting for setting in settings)
    assert found["ahead"] == found["ngram"] == found["several"] == found["plain"]
    told = json.loads((tmp_path / "several" / "speculation.json").read_text())
    assert told["drafted"].keys() == {"recycle", "ngram"} and sum(told["drafted"].values()) > 0
    assert (
        sum(n for n, _ in told["by_depth"])
        == sum(told["drafted"].values())
        == sum(row.cost.drafted for row in read_rows(tmp_path / "several"))
    )


def test_greedy_is_the_same_under_any_seed(models, solve, tmp_path):
    assert solve(*models, "search=greedy", "limit=2", "seed=[1,2]", f"out={tmp_path / 'run'}") == 0
    first, second, third, fourth = read_rows(tmp_path / "run")
    assert (first.answer, first.cost.generated) == (second.answer, second.cost.generated)
    assert (third.answer, third.cost.generated) == (fourth.answer, fourth.cost.generated)
    assert first.cost.passes == 0 and first.score is None


@pytest.mark.parametrize(("part", "says"), [("policy", "policy.model"), ("verifier", "verifier.model")])
def test_a_folder_that_is_no_model_is_one_sentence(part, says, models, solve, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    assert solve(*models, f"{part}.model={tmp_path / 'empty'}", f"out={out}") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(f"{says}='{tmp_path / 'empty'}' is not valid: ")
    assert not out.exists()


def test_problems_of_ones_own(models, solve, tmp_path, capsys):
    rows = [{"id": "one", "problem": "What is 1+1?", "answer": "2"}, {"id": "two", "problem": "Why?", "answer": None}]
    path = tmp_path / "a, b.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert solve(*models, "task=jsonl", f"task.path={path}", "search=majority", f"out={tmp_path / 'run'}") == 0
    one, two = read_rows(tmp_path / "run")
    assert one.correct is not None and two.correct is None
    path.write_text('{"id": "one", "problem": "?"\n')
    assert solve(*models, "task=jsonl", f"task.path={path}", f"out={tmp_path / 'other'}") == 2
    err = capsys.readouterr().err
    assert "task.path=" in err and "line 1" in err and str(path) in err


@pytest.mark.parametrize("pool", [[], ["pool=local", "pool.workers=thread", "pool.replicas=2"]])
def test_a_run_tells_what_its_processes_took(models, solve, tmp_path, pool):
    assert solve(*models, *pool, "search=beam", "search.depth=3", "limit=4", f"out={tmp_path / 'run'}") == 0
    rows = read_rows(tmp_path / "run")
    told = json.loads((tmp_path / "run" / "run.json").read_text())["pace"]
    assert len(told["policy"]) == len(told["verifier"]) == (2 if pool else 1)
    assert {each["process"] for each in (told["driver"], *told["policy"], *told["verifier"])} == {os.getpid()}
    assert sum(each["drawn"] for each in told["policy"]) == sum(row.cost.generated for row in rows)
    calls, read = (sum(each["sums"][cause][-1] for each in told["policy"]) for cause in (3, 2))
    assert calls == sum(row.cost.policy_calls for row in rows)
    assert read == sum(row.cost.prefilled for row in rows)
    assert told["driver"]["requests"] == sum(row.cost.policy_calls + row.cost.passes for row in rows)
    assert told["driver"]["wall"] > 0 and told["cores"] >= 1
