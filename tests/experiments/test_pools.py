"""The main job over pools: the same rows, one sentence where a pool cannot be had, resumed when its driver dies."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.rows import read_rows
from experiments.store import read_run
from policies.pool import cluster

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20 if os.environ.get("TREEWISE_FULL") == "1" else 2


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_a_pool_changes_no_row(workers, tmp_path, capsys, solve, without_times):
    arguments = ["search=beam", "limit=4", "seed=[0,1]"]
    assert solve(*arguments, f"out={tmp_path / 'alone'}") == 0
    pool = ["pool=local", f"pool.workers={workers}", "pool.replicas=3", "pool.verifier.replicas=1"]
    assert solve(*arguments, *pool, f"out={tmp_path / 'pooled'}") == 0
    assert without_times(tmp_path / "pooled") == without_times(tmp_path / "alone")
    told = read_run(tmp_path / "pooled")
    assert told["fingerprints"] == read_run(tmp_path / "alone")["fingerprints"]
    asked = sum(row.cost.policy_calls for row in read_rows(tmp_path / "pooled"))
    assert told["pools"]["policy"]["items"] == asked, "nothing lost, nothing counted twice"
    assert "policy pool: " in capsys.readouterr().out


def test_looking_ahead_changes_no_row_and_is_counted(tmp_path, solve, without_times, monkeypatch):
    arguments = ["search=beam", "limit=6", "seed=[0,1]"]
    assert solve(*arguments, f"out={tmp_path / 'alone'}") == 0
    monkeypatch.setattr("policies.pool.ahead.gain", lambda *_: 1.0)
    assert solve(*arguments, "pool=local", "pool.workers=thread", "pool.ahead=1", f"out={tmp_path / 'ahead'}") == 0
    assert without_times(tmp_path / "ahead") == without_times(tmp_path / "alone")
    rows, pool = read_rows(tmp_path / "ahead"), read_run(tmp_path / "ahead")["pools"]["policy"]
    assert pool["begun"] > 0
    assert sum(row.cost.speculated for row in rows) == pool["wasted_tokens"]
    asked = sum(row.cost.policy_calls for row in rows)
    assert pool["items"] == asked + pool["begun"] - pool["used"], "nothing counted twice"


def test_graders_and_sandboxes_may_be_pooled(tmp_path, solve, without_times):
    arguments = ["search=majority", "search.n=3", "select=majority", "task=arithmetic", "limit=3"]
    assert solve(*arguments, f"out={tmp_path / 'alone'}") == 0
    pool = ["pool=local", "pool.parts=[task]", "pool.task.replicas=1", "pool.workers=process"]
    assert solve(*arguments, *pool, f"out={tmp_path / 'pooled'}") == 0
    assert without_times(tmp_path / "pooled") == without_times(tmp_path / "alone")
    pools = read_run(tmp_path / "pooled")["pools"]
    assert list(pools) == ["task"] and pools["task"]["items"] == 6  # a vote and a grade for each item


async def test_a_pooled_task_grades_as_the_task(settings):
    from experiments.parts import Parts

    text = "so it is 5"
    parts = Parts.of(settings("task=arithmetic", "pool=local", "pool.parts=[task]", "pool.task.replicas=1"))
    item = parts.task.items()[0]
    outside = await parts.task.grade(item, text)
    async with parts.task as graded:
        assert await graded.grade(item, text) == outside
        assert await graded.classes(["5", "6", "5"]) == await graded.task.classes(["5", "6", "5"])


def test_a_run_may_go_on_with_another_pool(tmp_path, solve, without_times):
    assert solve("search=flat", "limit=4", f"out={tmp_path / 'run'}") == 0
    assert solve("search=flat", "limit=8", "pool=local", "pool.workers=inline", f"out={tmp_path / 'run'}") == 0
    assert solve("search=flat", "limit=8", f"out={tmp_path / 'whole'}") == 0
    assert without_times(tmp_path / "run") == without_times(tmp_path / "whole")


def test_the_checker_of_an_item_works_in_the_replicas(tmp_path, settings):
    from experiments.parts import Parts

    for pool in ("none", "local"):
        parts = Parts.of(settings("verifier=prm_checked", f"pool={pool}"))
        assert hasattr(parts.verifier, "bind")
    parts = Parts.of(settings("verifier=prm", "pool=local"))
    assert not hasattr(parts.verifier, "bind")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pool=local", "pool.replicas=0"], "pool.replicas=0 is not valid: give a whole number of at least 1"),
        (["pool=local", "pool.replicas=two"], "pool.replicas='two' is not valid: give a whole number"),
        (
            ["pool=local", "pool.parts=[judge]"],
            "pool.parts='judge' is not valid: choose from policy, verifier, roles, task",
        ),
        (["pool=local", "pool.workers=many"], "pool.workers='many' is not valid: give process, thread or inline"),
        (
            ["pool=ray", "pool.gpus=100000"],
            "pool.gpus=100000 is not valid: 2 replicas need 200000 and this machine",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(overrides, sentence, tmp_path, capsys, monkeypatch, solve):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert solve(*overrides, f"out={tmp_path / 'run'}") == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said
    assert not (tmp_path / "run").exists()


def test_ray_that_is_not_there_is_one_sentence_and_status_two(tmp_path, capsys, monkeypatch, solve):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert solve("pool=ray", f"out={tmp_path / 'run'}") == 2
    assert capsys.readouterr().err.strip().endswith("pip install 'treewise[ray]', or take pool=local")


def refused(arguments, tmp_path, before="pass"):
    """What the program says before it ends with status 2, within 30 seconds: one line."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    settings = ["solve", "debug=toy", *arguments, f"out={tmp_path / 'run'}", f"hydra.sweep.dir={tmp_path / 'sweeps'}"]
    program = f"import sys; {before}; sys.argv = {settings!r}; from experiments.solve import main; main()"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert time.monotonic() - began < 30
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "run").exists()
    return done.stderr


WAYS = {"pool": ["pool=ray"], "sweep": ["-m", "hydra/launcher=ray", "seed=0,1"]}
GROUPS = {"pool": "pool", "sweep": "hydra.launcher"}


@pytest.mark.parametrize("way", WAYS)
def test_the_program_without_ray_ends_with_one_sentence(way, tmp_path):
    said = refused(WAYS[way], tmp_path, before="sys.modules['ray'] = None")  # it cannot be imported
    assert "Ray is not installed: pip install 'treewise[ray]'" in said


@pytest.mark.ray
@pytest.mark.parametrize("way", WAYS)
def test_the_program_with_ray_itself_ends_with_one_sentence(way, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused([*WAYS[way], f"{GROUPS[way]}.address={nobody}"], tmp_path)
        assert said.startswith(f"{GROUPS[way]}.address='{nobody}' is not valid: no Ray cluster answers there")
    need = {"pool": "2 replicas need 128", "sweep": "1 replicas need 64"}[way]
    assert need in refused([*WAYS[way], f"{GROUPS[way]}.gpus=64"], tmp_path)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_more_devices_than_a_running_cluster_has_is_one_sentence(tmp_path, monkeypatch):
    """A cluster that is there is asked, and waited for a little: nodes may be on their way."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'treewise[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    size = {"num_cpus": 4, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=size)
    try:
        said = refused(["pool=ray", f"pool.address={cluster.address}", "pool.gpus=2"], tmp_path)
        assert "2 replicas need 4 and the cluster has 0" in said
    finally:
        cluster.shutdown()


SLOW = """
import asyncio
from dataclasses import dataclass
from policies.toy import Toy

@dataclass(frozen=True)
class Slow(Toy):
    async def sample(self, requests):
        await asyncio.sleep(0.02)
        return await super().sample(requests)
"""


def test_a_driver_killed_at_any_time_resumes_and_leaves_no_process(tmp_path, monkeypatch, solve, without_times):
    (tmp_path / "slowpool.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["policy._target_=slowpool.Slow", "search=beam", "limit=6", "concurrency=2"]
    assert solve(*arguments, f"out={tmp_path / 'whole'}") == 0
    out, rng = tmp_path / "killed", random.Random(0)
    command = [sys.executable, "-m", "experiments.solve", "debug=toy", *arguments, "pool=local", f"out={out}"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (out / "run.json").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        replicas = _children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 30
        while any(map(_alive, replicas)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(_alive, replicas)), "a replica outlived its driver"
    assert solve(*arguments, "pool=local", "pool.workers=thread", f"out={out}") == 0
    assert without_times(out) == without_times(tmp_path / "whole")


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
