"""How an engine begins and ends: nothing is left behind, whoever dies; and guesses that change nothing."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from policies.vllm import VLLM
from policies.vllm.host import Host
from search.errors import ConfigError, PolicyError
from search.steps import Tokens
from search.types import Prefix, Request, Sampling

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).resolve().parents[2]
POLICY = str(ROOT / "models" / "policy")
CHAT = [{"role": "user", "content": "Make 24 from 4 9 10 13."}]


def engines():
    return {child.pid for child in multiprocessing.active_children() if "EngineCore" in child.name}


DRAFT = {"method": "draft_model", "model": str(ROOT / "models" / "draft"), "num_speculative_tokens": 3}


@pytest.mark.parametrize("speculate", ["search", DRAFT], ids=["search", "draft model"])
def test_guesses_change_no_distribution_and_leave_no_process(speculate, loop, policy, small, caplog):
    prompt = Prefix(policy.prompt(CHAT))
    greedy = Request(prompt, Sampling(0.0, max_tokens=120), (1,))
    drawn = Request(prompt, Sampling(0.9, 0, 0.9, 8, Tokens(8)), tuple(range(1500)))
    wanted = loop(policy.sample([greedy, drawn]))
    before = engines()
    with caplog.at_level(logging.WARNING, "policies.vllm"):
        with loop.inside(VLLM(POLICY, **small, rows=8, speculate=speculate)) as guessing:
            assert len(engines() - before) == 1
            found = loop(guessing.sample([greedy, drawn]))
            again = loop(guessing.sample([greedy]))
            counters = guessing.host.counters
    assert "speculation" in caplog.text  # what the check at the start found
    assert found[0].segments == wanted[0].segments == again[0].segments
    assert again[0].cost.drafted > 0 and counters.accepted > 1000
    ours, theirs = (Counter(s.tokens[:5] for s in reply.segments) for reply in (found[1], wanted[1]))
    distance = sum(abs(ours[key] - theirs[key]) for key in ours | theirs) / 2 / 1500
    halves = [Counter(s.tokens[:5] for s in wanted[1].segments[i::2]) for i in (0, 1)]
    noise = sum(abs(halves[0][key] - halves[1][key]) for key in halves[0] | halves[1]) / 1500
    assert distance < noise  # of half as many draws: about 1.4 times what is expected
    assert engines() == before


def test_guesses_that_change_answers_are_refused_and_the_engine_is_closed(loop, small, monkeypatch):
    happened = []

    async def told(self, method):
        happened.append(method)
        return [False]

    async def close(self):
        happened.append("closed")

    for name, method in (("start", lambda self: None), ("told", told), ("close", close)):
        monkeypatch.setattr(Host, name, method)
    with pytest.raises(ConfigError, match="speculate"):
        with loop.inside(VLLM(POLICY, **small, speculate="ngram")):
            pass
    assert happened == ["treewise_expands", "treewise_repair", "closed"]


def test_an_engine_that_dies_is_an_error_and_not_a_hang(loop, small):
    before = engines()
    with loop.inside(VLLM(POLICY, **small)) as policy:
        prompt = Prefix(policy.prompt(CHAT))
        (mine,) = engines() - before

        async def work():
            call = asyncio.ensure_future(policy.sample([Request(prompt, Sampling(max_tokens=400), tuple(range(64)))]))
            await asyncio.sleep(0.05)
            os.kill(mine, signal.SIGKILL)
            await call

        with pytest.raises(PolicyError, match="died"):
            loop(asyncio.wait_for(work(), 60))
        with pytest.raises(PolicyError):
            loop(asyncio.wait_for(policy.sample([Request(prompt, Sampling(), (1,))]), 60))
    assert engines() == before


ORPHAN = """
import asyncio, multiprocessing, sys
from policies.vllm import VLLM

async def main():
    async with VLLM(sys.argv[1], memory="64MB", threads=1):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_no_process_outlives_a_program_that_is_killed(tmp_path, loop):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = subprocess.Popen(
        [sys.executable, str(script), POLICY], stdout=subprocess.PIPE, env=environment, text=True
    )
    pids = [int(pid) for pid in program.stdout.readline().split()]
    program.kill()
    program.wait()
    program.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert pids and not any(map(alive, pids))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
