"""The worked example of the README: a package of verifiers, used by name without touching the project."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.rows import read_rows
from search.types import Prefix, Segment
from verifiers.testing import check_verifier

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "experiments" / "examples"


@pytest.fixture
def my_lab(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import my_lab

    yield my_lab
    sys.modules.pop("my_lab")


def test_a_package_on_the_search_path_is_used_by_name(my_lab, solve, tmp_path):
    out = tmp_path / "run"
    assert solve("hydra.searchpath=[pkg://my_lab.conf]", "verifier=steady", "verifier.least=2", f"out={out}") == 0
    rows = read_rows(out)
    assert rows and all(row.error is None and row.score == 1 for row in rows), "letters are equally long"


def test_the_command_of_the_readme_runs(tmp_path):
    """As a user types it, in a process of its own; the example folder is all that is added."""
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        "-m",
        "experiments.solve",
        "debug=toy",
        "hydra.searchpath=[pkg://my_lab.conf]",
    ]
    paths = os.pathsep.join([str(EXAMPLES), str(ROOT)])
    done = subprocess.run(
        [*command, "verifier=steady", f"out={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert read_rows(tmp_path / "run")[0].score is not None


def test_it_keeps_the_laws(my_lab):
    steps = tuple(Segment((i,), "x" * i, (-1.0,)) for i in (3, 5, 2))
    many = [Prefix(Segment((1,), "?"), steps[:n], "?") for n in (1, 2, 3)]
    asyncio.run(check_verifier(my_lab.Steady(), many))
    assert [v.value for v in asyncio.run(my_lab.Steady().score(many))] == [1.0, 0.6, 0.4]


def test_it_is_as_short_as_promised():
    code = (EXAMPLES / "my_lab" / "__init__.py").read_text().splitlines()
    body = [line for line in code if line.strip() and '"""' not in line and not line.startswith(("from", "import"))]
    assert len(body) <= 10
    assert len((EXAMPLES / "my_lab" / "conf" / "verifier" / "steady.yaml").read_text().splitlines()) == 3
