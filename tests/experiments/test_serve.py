"""A policy served by us: over the wire it is the same policy."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.serve import _main, _own
from experiments.serving import Answer, Asked, Service
from policies.embedded import Embedded
from policies.http import Endpoint
from policies.tiny import checkpoint
from policies.toy import Toy
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.budget import Budget
from search.run import run
from search.session import Session
from search.steps import Delimiter, Tokens
from search.types import Prefix, Request, Sampling
from verifiers.toy import Hidden

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = [{"role": "user", "content": "q"}]


async def ask(service, path, headers=None, method="POST", **body):
    answer = await service(Asked(method, path, headers or {}, json.dumps(body).encode()))
    return answer.status, answer.body


async def test_it_answers_as_the_api_does():
    service = Service(Toy("abc", 5, 0.2), "toy", key="k")
    shown = {"authorization": "Bearer k"}
    assert (await ask(service, "/v1/completions"))[0] == 401
    assert (await ask(service, "/v1/models", shown, "GET"))[1]["data"][0]["id"] == "toy"
    for path, body, status in (
        ("/v1/other", {}, 404),
        ("/v1/completions", {"prompt": "x", "model": "other"}, 404),
        ("/v1/completions", {}, 400),
        ("/v1/completions", {"prompt": ["a", "b"]}, 400),
        ("/v1/completions", {"prompt": "x", "temperature": -1}, 400),
        ("/v1/completions", {"prompt": "x", "n": "many"}, 400),
        ("/v1/completions", {"prompt": "x", "echo": True}, 501),
    ):
        found, said = await ask(service, path, shown, **body)
        assert found == status and said["error"]["message"], (path, body)
    _, said = await ask(service, "/v1/completions", shown, prompt="x", n=2, seed=4, max_tokens=9, logprobs=1)
    assert [choice["index"] for choice in said["choices"]] == [0, 1]
    (wanted,) = await service.policy.sample([Request(Prefix(Toy().write("x")), Sampling(max_tokens=9), (4, 5))])
    assert [choice["text"] for choice in said["choices"]] == [segment.text for segment in wanted.segments]
    assert said["usage"]["completion_tokens"] == sum(len(segment.tokens) for segment in wanted.segments)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("tiny"), end_bias=3.0)


@pytest.mark.parametrize("here", [True, False])
async def test_the_embedded_policy_grows_the_same_trees_over_the_wire(here, small, on_loopback):
    """With the tokenizer here, or the server's own; greedy and sampled, by tokens and by delimiters."""
    embedded = Embedded(str(small), memory="16MB", threads=1)
    async with embedded:
        with on_loopback(_Here(Service(embedded, "tiny"))) as url:
            endpoint = Endpoint(url, tokenizer=str(small) if here else None)
            async with endpoint:
                assert endpoint.abilities.route == "tokens" and endpoint.abilities.seeds == 63
                assert "Likelihood" not in endpoint.lacks
                prompt = endpoint.prompt(MESSAGES)
                assert prompt == embedded.prompt(MESSAGES)
                assert endpoint.turn("more").tokens == embedded.turn("more").tokens
                for search, until, temperature in (
                    (Beam(beams=2, width=2, depth=3), Tokens(4), 1.0),
                    (AStar(width=2), Delimiter(("1", " ", "e")), 0.8),
                    (Beam(beams=1, width=1, depth=3), Tokens(5), 0.0),
                ):
                    step = Sampling(until=until, max_tokens=8, temperature=temperature)
                    how, trees = {"step": step, "whole": Sampling(max_tokens=8), "seed": 2}, []
                    for policy in (embedded, endpoint):
                        session = Session(prompt, policy, Hidden("abc"), Budget({"generated": 150}), **how)
                        await run(search, session)
                        trees.append([replace(node.segment, logprobs=()) for node in session.tree])
                    assert trees[0] == trees[1]
                steps = (await embedded.sample([Request(Prefix(prompt), Sampling(max_tokens=6), (1,))]))[0].segments
                (over,) = await endpoint.logprobs([Prefix(prompt)], steps)
                (within,) = await embedded.logprobs([Prefix(prompt)], steps)
                assert over == pytest.approx(within, abs=1e-4)


class _Here:
    """Answers in the event loop of the test, where the model is."""

    def __init__(self, service):
        self.service, self.loop = service, asyncio.get_running_loop()

    async def __call__(self, asked):
        if asked.path in ("/tokenize", "/detokenize"):  # asked while the test waits
            return await self.service(asked)

        async def whole():
            answer = await self.service(asked)
            return answer, [event async for event in answer.events] if answer.events else None

        answer, events = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(whole(), self.loop))
        if events is None:
            return answer

        async def again():
            for event in events:
                yield event

        return Answer(200, events=again())


def test_the_command_serves_until_interrupted(tmp_path):
    command = [
        sys.executable,
        "-m",
        "experiments.serve",
        "policy=toy",
        "policy.length=4",
        "port=0",
        "key_env=SERVE_KEY",
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SERVE_KEY": "sk-secret"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # heeded wherever the tests were started
    )
    try:
        line = process.stderr.readline()
        url = line.split(" at ")[1].strip()
        asked = urllib.request.Request(f"{url}/models", headers={"Authorization": "Bearer sk-secret"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=10) as answer:
            assert json.load(answer)["data"][0]["id"] == "toy"
        assert "sk-secret" not in line
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        process.stderr.close()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("port=many", "port="),
        ("host=0.0.0.0", "key_env"),
        ("policy=nothing", "choose from"),
        ("key_env=UNSET_KEY", "set"),
    ],
)
def test_wrong_settings(argument, said, capfd, monkeypatch):
    monkeypatch.delenv("UNSET_KEY", raising=False)
    assert _main(["policy=toy", argument]) == 2
    assert said in capfd.readouterr().err


def test_its_own_settings():
    assert _own(["port=1", "policy=toy"]) == (
        {"host": "127.0.0.1", "port": "1", "name": None, "key_env": None},
        ["policy=toy"],
    )
