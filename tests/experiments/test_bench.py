"""Figures come out as scripts expect them, whatever they measure."""

from __future__ import annotations

import asyncio
import json

import pytest

from experiments.bench import main, names
from experiments.benchmarks import tree
from experiments.benchmarks.figure import Figure, measured


def test_a_figure_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(tree, "MANY", 2_000)
    monkeypatch.setattr(tree, "FEW", 500)
    assert main(["tree"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["figure"] for line in lines] == ["tree.us_per_node", "tree.growth"]
    for line in lines:
        assert list(line) == ["figure", "value", "unit", "low", "high", "note"]
        assert 0 < line["low"] <= line["value"] <= line["high"]


def test_the_spread_is_that_of_the_repeats():
    assert measured("a.b", "s", "", [3.0, 1.0, 2.0]) == Figure("a.b", 2.0, "s", 1.0, 3.0, "")


def test_what_is_not_a_number_is_refused():
    with pytest.raises(ValueError):
        measured("a.b", "s", "", [float("nan")]).to_json()


def test_the_tree_grows_as_large_as_asked():
    assert 100 <= asyncio.run(tree.grow(100)) < 100 + tree.WIDTH


def test_an_unknown_benchmark_is_one_sentence(capsys):
    assert main(["nope"]) == 2
    assert "choose from" in capsys.readouterr().err
    assert "tree" in names()
