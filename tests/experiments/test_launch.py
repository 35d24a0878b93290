"""Sweeps as programs of their own, shards and what puts them together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from experiments import launch, merge, report
from experiments.rows import read_rows
from experiments.solve import main
from experiments.store import read_run
from search.errors import ConfigError


def test_every_job_has_a_folder_of_its_own():
    found = launch.commands([["search=beam", "out=here"], ["search=flat", "out='here'"]], 3, "runs/sweeps")
    assert found == [["search=beam", "out=here/3"], ["search=flat", "out=here/4"]]
    (alone,) = launch.commands([["seed=0"]], 0, "runs/sweeps")
    assert alone[0] == "seed=0" and alone[1].startswith("out=runs/sweeps/") and alone[1].endswith("/0")


def test_a_sweep_in_processes_is_the_runs_one_by_one(tmp_path, capsys, solve, without_times):
    sweep = ["-m", "hydra/launcher=processes", "hydra.launcher.jobs=2", f"hydra.sweep.dir={tmp_path / 'sweeps'}"]
    assert solve(*sweep, "search=flat,beam", "seed=0,1", "limit=2", f"out={tmp_path / 'out'}") == 0
    printed = capsys.readouterr().out
    assert printed.count("accuracy") == 4 and "== " in printed
    for number, (search, seed) in enumerate([("flat", 0), ("flat", 1), ("beam", 0), ("beam", 1)]):
        alone = tmp_path / f"{search}-{seed}"
        assert solve(f"search={search}", f"seed={seed}", "limit=2", f"out={alone}") == 0
        assert without_times(tmp_path / "out" / str(number)) == without_times(alone)


def test_a_sweep_one_after_the_other_has_the_same_folders(tmp_path, solve, without_times):
    """Searches by a pattern; what the launchers give each job here gives it too."""
    sweep = ["-m", f"hydra.sweep.dir={tmp_path / 'sweeps'}", "search=glob(be*)", "seed=0,1", "limit=1"]
    assert solve(*sweep, f"out={tmp_path / 'here'}") == 0
    assert solve(*sweep, "hydra/launcher=processes", f"out={tmp_path / 'there'}") == 0
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(map(str, range(6))), "beam, best_first_beam and best_of_n with two seeds each"
    for name in names:
        assert without_times(tmp_path / "here" / name) == without_times(tmp_path / "there" / name)
        assert read_run(tmp_path / "here" / name)["configuration"]["out"] == str(tmp_path / "here" / name)


def test_a_sweep_with_a_job_that_is_wrong_has_its_status(tmp_path, capsys, solve):
    sweep = ["-m", "hydra/launcher=processes", f"hydra.sweep.dir={tmp_path / 'sweeps'}", f"out={tmp_path / 'out'}"]
    assert solve(*sweep, "search.beams=0,1", "search=beam", "limit=1") == 2
    assert "search.beams=0 is not valid" in capsys.readouterr().err
    assert len(read_rows(tmp_path / "out" / "1")) == 1


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("hydra.launcher.jobs=0", "hydra.launcher.jobs=0 is not valid"),
        ("hydra.launcher.by=pigeon", "hydra.launcher.by='pigeon' is not valid"),
    ],
)
def test_a_wrong_launcher_is_one_sentence(override, sentence, tmp_path, capsys, solve):
    sweep = ["-m", "hydra/launcher=processes", override, f"hydra.sweep.dir={tmp_path / 'sweeps'}"]
    assert solve(*sweep, "seed=0,1", f"out={tmp_path / 'out'}") == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_slurm_needs_submitit(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match="submitit is not installed"):
        launch.launch([["seed=0"]], 0, "runs", {"by": "slurm"})


def test_slurm_jobs_go_through_submitit(tmp_path, monkeypatch):
    submitit = pytest.importorskip("submitit", reason="submitit is not installed: pip install 'treewise[slurm]'")
    assert submitit
    settings = {"by": "slurm", "cluster": "local", "folder": str(tmp_path / "logs"), "options": {"timeout_min": 5}}
    jobs = [["debug=toy", "search=flat", "limit=1", f"seed={seed}", f"out={tmp_path / 'out'}"] for seed in (0, 1)]
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert launch.launch(jobs, 0, str(tmp_path), settings) == [0, 0]
    assert len(read_rows(tmp_path / "out" / "1")) == 1


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_sweep_as_ray_tasks_and_its_report(tmp_path, monkeypatch, capsys, solve, without_times):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    sweep = ["-m", "hydra/launcher=ray", "+hydra.launcher.init.num_cpus=2", f"hydra.sweep.dir={tmp_path / 'sweeps'}"]
    small = "+hydra.launcher.init.object_store_memory=80000000"
    searches, tasks = ("flat", "beam", "astar"), ("toy", "countdown")
    jobs = [f"search={','.join(searches)}", "seed=0,1", f"task={','.join(tasks)}", "limit=2"]
    assert solve(*sweep, small, *jobs, f"out={tmp_path / 'out'}") == 0
    assert capsys.readouterr().out.count("accuracy") == 12
    folders = [tmp_path / "out" / str(number) for number in range(12)]
    assert sorted((tmp_path / "out").iterdir()) == sorted(folders)
    assert report.main([*map(str, folders), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    wanted = [(task, search) for search in searches for _ in (0, 1) for task in tasks]
    assert [(run["task"], run["search"]) for run in told["runs"]] == wanted
    assert all((run["items"], run["seeds"], run["errors"]) == (2, 1, 0) for run in told["runs"])
    # paired are runs of the same task and seed: three searches against each other, each time
    assert len(told["pairs"]) == 2 * 2 * 3 and all(pair["rows"] == 2 for pair in told["pairs"])
    alone = tmp_path / "alone"
    assert solve("search=beam", "seed=1", "task=countdown", "limit=2", f"out={alone}") == 0
    assert without_times(folders[7]) == without_times(alone)


@pytest.mark.parametrize("count", [1, 3])
def test_shards_together_are_one_run(count, tmp_path, capsys, solve, without_times):
    arguments = ["search=beam", "limit=7", "seed=[0,1]"]
    assert solve(*arguments, f"out={tmp_path / 'whole'}") == 0
    shards = [tmp_path / f"shard{number}" for number in range(count)]
    for number, folder in enumerate(shards):
        assert solve(*arguments, f"shard={number}/{count}", f"out={folder}") == 0
    assert sum(len(read_rows(folder)) for folder in shards) == 14
    for _ in range(2):  # again: nothing is there twice
        assert merge.main([str(tmp_path / "merged"), *map(str, reversed(shards))]) == 0
    assert without_times(tmp_path / "merged") == without_times(tmp_path / "whole")
    assert "14 rows" in capsys.readouterr().out
    assert all((tmp_path / "merged" / row.trace).is_file() for row in read_rows(tmp_path / "merged"))
    assert read_run(tmp_path / "merged")["merged"]


def test_a_row_without_an_error_stands_for_one_with(tmp_path, solve):
    assert solve("search=flat", "limit=2", f"out={tmp_path / 'good'}") == 0
    assert solve("search=flat", "limit=2", f"out={tmp_path / 'bad'}") == 0
    results = tmp_path / "bad" / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    rows[0]["error"] = "PolicyError: lost"
    results.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = merge.merge(tmp_path / "merged", [tmp_path / "bad", tmp_path / "good"])
    assert [row.error for row in store.rows.values()] == [None, None]


def test_shards_of_other_runs_are_refused(tmp_path, capsys, solve):
    assert solve("search=flat", "limit=1", f"out={tmp_path / 'a'}") == 0
    assert solve("search=beam", "limit=1", f"out={tmp_path / 'b'}") == 0
    assert merge.main([str(tmp_path / "merged"), str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "it is another run than" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("shard", ["4/4", "1", "-1/2", "a/b"])
def test_a_wrong_shard_is_one_sentence(shard, tmp_path, capsys, solve):
    assert solve(f"shard={shard}", f"out={tmp_path / 'run'}") == 2
    assert "give number/count" in capsys.readouterr().err


PUBLISHED = ("math500_beam", "math500_astar", "aime24_astar", "aime25_astar", "livecodebench_token_mcts")


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_settings_can_be_looked_at_anywhere(preset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["solve", f"experiment={preset}", "dry_run=true", "pool=ray", "pool.gpus=1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "its data is not here" in said and "models/" in said and "Ray(" in said
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_dry_run_counts_what_would_be_run(tmp_path, capsys, solve):
    assert solve("dry_run=true", "limit=6", "seed=[1,2]", "shard=0/4", f"out={tmp_path / 'run'}") == 0
    assert "2 items, 4 rows" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
