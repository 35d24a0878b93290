"""The benchmark beside other packages: what it does without them, and that both sides are judged alike."""

from __future__ import annotations

import json
import sys

import httpx
import pytest

from experiments.bench import main
from experiments.benchmarks import peers
from experiments.item import cut
from experiments.listen import listen
from experiments.peers import server
from experiments.peers.judge import Judge, Judging
from experiments.serving import Asked
from experiments.tasks.reference import Arithmetic
from policies.embedded import Embedded
from search.errors import ConfigError
from search.run import run
from search.session import Session
from search.types import Finish, Prefix, Request
from verifiers.prm import PRM


def test_without_the_packages_it_says_how_to_get_them(capsys):
    assert main(["peers", "--peers", sys.executable]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "pip install 'its_hub[lm]==1.2.0' 'treequest==0.3.3'" in said


def test_without_vllm_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert server.vllm_python("/there/python") == "/there/python"
    with pytest.raises(ConfigError, match="make test-vllm"):
        server.vllm_python(None)


def test_a_server_that_does_not_start_says_why(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    script.chmod(0o755)
    with pytest.raises(ConfigError, match="no such model"):
        server.Server(str(script)).start()


async def test_texts_are_judged_as_the_draws_they_were():
    """The reward model behind HTTP reads the ids that the policy wrote, and gives the same values."""
    task = Arithmetic()
    async with (
        Embedded("models/policy", threads=1) as policy,
        PRM("models/prm", threads=1) as prm,
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
    ):
        judging = Judging(policy.front(), prm)
        socket = await listen(judging, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{socket.sockets[0].getsockname()[1]}/"
        for item in cut(task.items(), 3):
            messages = task.messages(item)
            prompt = policy.prompt(messages)
            session = Session(prompt, policy, prm, step=peers.STEP, whole=peers.WHOLE)
            outcome = await run(peers.searches()["beam"], session)
            nodes = [n for n in outcome.tree if n.scored and n.segment.finish is not Finish.LENGTH]
            assert any(node.complete for node in nodes) and any(not node.terminal for node in nodes)
            for node in nodes:
                assert judging.prefix(prompt, node.prefix.text).tokens == _with_end(node.prefix, policy)
            verdicts = await Judge(url, messages[-1]["content"], http).score([node.prefix for node in nodes])
            assert [v.value for v in verdicts] == pytest.approx([node.score for node in nodes], abs=1e-5)
        socket.close()
        answer = await judging(Asked("POST", "/", {}, json.dumps({"question": "?"}).encode()))
        assert answer.status == 400


def _with_end(prefix: Prefix, policy):
    """Without the end token, which the judge leaves to the verifier."""
    return prefix.tokens[:-1] if prefix.steps[-1].finish is Finish.END else prefix.tokens


async def test_our_beam_draws_as_many_as_theirs():
    """The first level draws samples / beams steps, every later one as many as there are samples."""
    asked = []

    class Counting(peers.Script):
        async def sample(self, requests: list[Request]):
            asked.extend((len(r.prefix.steps), len(r.seeds)) for r in requests if r.sampling.until)
            return await super().sample(requests)

    script = Counting()
    session = Session(peers.Segment((0,), "?"), script, script, step=peers.STEP, whole=peers.WHOLE)
    await peers.searches()["beam"](session)
    levels = [sum(n for depth, n in asked if depth == level) for level in range(peers.DEPTH)]
    assert levels == [peers.SAMPLES // peers.BEAMS] + [peers.SAMPLES] * (peers.DEPTH - 1)


def test_a_script_grows_as_many_nodes_as_asked():
    assert 0 < peers.per_node(50) < 1
