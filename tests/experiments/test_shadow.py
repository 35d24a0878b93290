"""A foreign package under one of our names is reported before anything else fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments import shadow

ROOT = Path(shadow.__file__).parent.parent


def test_our_own_packages_are_not_foreign():
    assert shadow.foreign(("search", "experiments")) == {}


def test_a_package_of_another_folder_is_foreign(tmp_path, monkeypatch):
    (tmp_path / "treewise_shadow_probe").mkdir()
    (tmp_path / "treewise_shadow_probe" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert shadow.foreign(("treewise_shadow_probe",)) == {
        "treewise_shadow_probe": str(tmp_path / "treewise_shadow_probe")
    }
    assert shadow.foreign(("treewise_shadow_probe",), root=tmp_path) == {}


def test_a_missing_package_is_reported():
    assert shadow.foreign(("treewise_no_such_package",)) == {"treewise_no_such_package": "nowhere"}


def test_the_app_says_so_in_one_sentence_and_exits_2(tmp_path):
    foreign = tmp_path / "verifiers"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise ImportError('the foreign package was imported')\n")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.solve", "task=toy"],
        capture_output=True,
        text=True,
        cwd=tmp_path,  # `-m` puts the working folder first, so the foreign package wins
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert str(foreign) in done.stderr and "virtual environment" in done.stderr
