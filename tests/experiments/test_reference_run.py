"""The main job as a user meets it: the default settings, the models that ship, problems that are built in."""

from __future__ import annotations

from experiments.rows import read_rows

REAL = ["policy=embedded", "policy.threads=1", "verifier=prm", "steps=line", "trace=events"]


def test_the_demo_solves_most_of_its_puzzles_with_the_checker(solve, tmp_path):
    out = tmp_path / "checked"
    settings = ["experiment=demo", "task=game24", "limit=8", f"out={out}"]
    assert solve(*REAL[:2], "verifier=prm_checked", *REAL[3:], *settings) == 0
    rows = read_rows(out)
    assert len(rows) == 8 and all(row.error is None for row in rows)
    assert sum(row.correct is True for row in rows) >= 6
    assert all(row.cost.generated <= 8192 + 16 * 128 for row in rows)


def test_search_beats_the_greedy_answer_of_the_same_policy(solve, tmp_path):
    right = {}
    for search in ("greedy", "astar"):
        out = tmp_path / search
        assert solve(*REAL, "task=arithmetic", "limit=40", f"search={search}", "concurrency=40", f"out={out}") == 0
        right[search] = sum(row.correct is True for row in read_rows(out))
    assert right["astar"] >= right["greedy"] + 3
