"""`python -m verifiers.check` on the toy world, in this process and as a user types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.check import main

ROOT = Path(__file__).resolve().parent.parent.parent


def check(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["check", "debug=toy", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_good_verifier_passes(monkeypatch, capsys):
    assert check(monkeypatch, "limit=2") == 0
    said = capsys.readouterr().out
    assert said.startswith("Hidden(word='abcab'") and said.count("\nholds ") == 6 and "BROKEN" not in said


def test_a_broken_verifier_does_not(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "forgetful", sys.modules[__name__])
    assert check(monkeypatch, "verifier=none", "+verifier._target_=forgetful.Forgetful", "limit=1") == 1
    assert "BROKEN  judges_alike" in capsys.readouterr().out


class Forgetful:
    """Never says the same."""

    def __init__(self):
        self.asked = 0

    async def score(self, prefixes):
        from search.types import Verdict

        self.asked += 1
        return [Verdict(1 / self.asked) for _ in prefixes]


def test_wrong_settings_are_one_sentence(monkeypatch, capsys):
    for wrong in ("verifier=nobody", "verifier=none", "limit=0"):
        assert check(monkeypatch, wrong) == 2
        assert "is not valid" in capsys.readouterr().err


def test_the_command_runs_by_its_name():
    command = [sys.executable, "-m", "verifiers.check", "debug=toy", "limit=1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "holds   keeps_the_contract" in done.stdout, done.stderr
