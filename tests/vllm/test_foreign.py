"""A server that is neither ours nor vLLM's, with text alone: `transformers serve`."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from experiments.item import cut
from experiments.tasks.reference import Arithmetic, Game24
from policies.embedded import Embedded
from policies.http import Endpoint
from search.algorithms.beam import Beam
from search.budget import Budget
from search.run import run
from search.session import Session
from search.steps import Delimiter
from search.types import Sampling, Verdict

pytestmark = pytest.mark.vllm  # the environment of vLLM has most of what it needs

POLICY = str(Path(__file__).resolve().parents[2] / "models" / "policy")
STEP = Sampling(temperature=0.0, max_tokens=48, until=Delimiter())


class Same:
    async def score(self, prefixes):
        return [Verdict(0.5) for _ in prefixes]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    if missing := [name for name in ("fastapi", "uvicorn", "accelerate") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"`transformers serve` needs {', '.join(missing)}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", POLICY, "--host", "127.0.0.1"]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (home / "said").open("wb") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu", "--dtype", "float32"],
            env=quiet,
            stdout=said,
            stderr=said,
        )
    try:
        for _ in range(240):
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False)
                break
            except httpx.TransportError:
                assert process.poll() is None, (home / "said").read_text()[-2000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


async def test_text_is_enough_for_greedy_searches(url):
    async with (
        Endpoint(url, model=POLICY, tokenizer=POLICY, attempts=2) as policy,
        Embedded(POLICY, threads=1) as here,
    ):
        assert policy.abilities.route == "text" and policy.abilities.stream and not policy.abilities.seeds
        assert {"logprobs", "Reads"} <= set(policy.lacks)
        for task in (Arithmetic(), Game24()):
            item = cut(task.items(), 1)[0]
            found, wanted = [await _grown(p, task, item) for p in (policy, here)]
            assert [n.segment.text for n in found.tree] == [n.segment.text for n in wanted.tree]
            assert found.answer.prefix.text == wanted.answer.prefix.text
            assert found.spent.generated == wanted.spent.generated  # a stream is closed where the step ends


async def _grown(policy, task, item):
    prompt = policy.prompt(task.messages(item))
    session = Session(prompt, policy, Same(), Budget({"generated": 500}), step=STEP, whole=STEP.to_the_end(100))
    return await run(Beam(1, 1), session)
