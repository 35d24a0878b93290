"""Where results come from is told truthfully, or not at all."""

from __future__ import annotations

import subprocess

import pytest

from experiments.provenance import git_state, start, versions


@pytest.fixture
def checkout(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "ours.py").write_text("1")
    git("add", "ours.py")
    git("commit", "-m", "first")
    return tmp_path


def test_the_commit_and_whether_it_was_changed(checkout):
    state = git_state(checkout / "ours.py")
    assert len(state["commit"]) == 40 and state["changed"] is False
    (checkout / "ours.py").write_text("2")
    assert git_state(checkout / "ours.py") == {"commit": state["commit"], "changed": True}


def test_another_projects_checkout_is_not_ours(checkout):
    (checkout / "installed.py").touch()
    assert git_state(checkout / "installed.py") is None


def test_no_checkout(tmp_path):
    assert git_state(tmp_path / "file.py") is None


def test_a_start_tells_versions_and_command():
    told = start(["task=toy"])
    assert told["command"] == ["task=toy"] and told["versions"] == versions()
    assert told["versions"]["numpy"] is not None
