"""A trace file gives back the tree it was written from."""

from __future__ import annotations

import asyncio
import json

import pytest

from experiments.trace import Trace, read_events, read_tree
from policies.toy import Toy
from search import ConfigError, Sampling, Session, run
from search.algorithms.beam import Beam
from search.steps import Tokens
from verifiers.toy import Hidden


@pytest.fixture
def traced(tmp_path):
    toy = Toy(end=0.2)
    with Trace(tmp_path / "trace.jsonl") as trace:
        prompt = toy.prompt([{"role": "user", "content": "?"}])
        session = Session(
            prompt, toy, Hidden("abcab"), step=Sampling(until=Tokens(1)), whole=Sampling(), question="?", sinks=[trace]
        )
        outcome = asyncio.run(run(Beam(beams=2, width=3), session))
    return trace.path, outcome.tree


def test_the_tree_comes_back(traced):
    path, tree = traced
    assert len(tree) > 10
    assert read_tree(path).to_json() == tree.to_json()


def test_a_torn_line_is_left_out(traced):
    path, _ = traced
    events = read_events(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert read_events(path) == events[:-1]


@pytest.mark.parametrize("text", ["", "{}\n", "7\n", '{"kind": "dreamt"}\n', "not json\n"])
def test_what_is_no_trace_is_named(tmp_path, text):
    (tmp_path / "trace.jsonl").write_text(text)
    with pytest.raises(ConfigError, match="trace"):
        read_tree(tmp_path / "trace.jsonl")
    with pytest.raises(ConfigError, match="no such file"):
        read_tree(tmp_path / "nothing.jsonl")


def test_lines_are_strict_json(traced):
    path, _ = traced
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
