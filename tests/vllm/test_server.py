"""vLLM's OpenAI server on loopback: what is probed, the trees grown in process, the counts of its own metrics."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
import time
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import fmean

import httpx
import pytest

from experiments.item import cut
from experiments.listen import listen
from experiments.peers.server import Server
from experiments.serving import Answer, failed
from experiments.tasks.reference import Arithmetic, Game24
from experiments.trials import trial
from policies.embedded import Embedded
from policies.http import Endpoint
from policies.phased import Phased
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.best_first_beam import BestFirstBeam
from search.algorithms.flat import Flat
from search.algorithms.mcts import MCTS
from search.algorithms.particles import ParticleFilter
from search.budget import Budget
from search.run import run
from search.session import Session
from search.steps import Delimiter, Entropy, Pattern, Sentence, Tokens
from search.types import Cost, Finish, Prefix, Request, Sampling
from verifiers.prm import PRM

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).resolve().parents[2]
POLICY, TASKS = str(ROOT / "models" / "policy"), (Arithmetic(), Game24())
CHAT = [{"role": "user", "content": "Make 24 from 4 9 10 13."}]
STEP = Sampling(temperature=0.8, max_tokens=48, until=Delimiter())
SEARCHES = {
    "best_of_n": Flat(3),
    "beam": Beam(3, 3),
    "astar": AStar(3, expansions=6),
    "mcts": MCTS(8, 3, parallel=2),
    "particles": ParticleFilter(6),
    "best_first_beam": BestFirstBeam(3),
}


@pytest.fixture(scope="module")
def server():
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed: `make test-vllm` makes an environment that has it")
    running = Server(model=POLICY)
    running.start()
    yield running
    running.kill()


def endpoint(server, **settings):
    return Endpoint(server.url, **{"tokenizer": POLICY, **settings})


async def grown(policy, prm, search, task, item, step, seed=0):
    """The tree's content and what it cost."""
    prompt = policy.prompt(task.messages(item))
    whole = step.to_the_end(200)
    session = Session(prompt, policy, prm, Budget({"generated": 4000}), step=step, whole=whole, seed=seed)
    outcome = await run(search, session)
    nodes = [
        (n.parent.id if n.parent else None, n.segment.tokens, n.segment.text, n.segment.finish, n.times, n.visits)
        for n in outcome.tree
    ]
    return nodes, outcome.answer.prefix.text if outcome.answer else None, outcome.spent


@pytest.mark.parametrize("tokenizer", [POLICY, None], ids=["ours", "the server's"])
async def test_what_it_can_do_is_found_out(server, tokenizer):
    async with endpoint(server, tokenizer=tokenizer) as policy:
        found = policy.abilities
        assert (found.route, found.logprobs, found.seeds, found.n, found.stop, found.stream, found.scores) == (
            "tokens", "raw", 63, True, True, True, True,
        )  # fmt: skip
        assert found.context == 512 and policy.lacks == {}
        async with Embedded(POLICY, threads=1) as here:
            assert policy.prompt(CHAT) == here.prompt(CHAT)
            assert policy.turn("again").tokens == here.turn("again").tokens
            assert policy.vocabulary_size() >= here.vocabulary_size()
            prefix, said = Prefix(here.prompt(CHAT)), here.write("10-4=6 (left: 6 9 13)\n\n")
            ((there,), (own,)) = await policy.logprobs([prefix], [said]), await here.logprobs([prefix], [said])
            assert there == pytest.approx(own, abs=2e-4)


@pytest.mark.parametrize("route", ["text", "chat"])
async def test_without_token_ids_it_says_so_and_reads_what_it_wrote(server, route):
    async with endpoint(server, route=route, tokenizer=POLICY if route == "text" else None) as policy:
        assert policy.abilities.route == route and set(policy.lacks) == {"Enumerates", "Reads", "Likelihood"}
        async with Embedded(POLICY, threads=1) as here, PRM(str(ROOT / "models" / "prm"), threads=1) as prm:
            for task in TASKS:
                item = cut(task.items(), 1)[0]
                greedy = replace(STEP, temperature=0.0)
                _, wanted, _ = await grown(here, prm, Beam(1, 1), task, item, greedy)
                nodes, text, _ = await grown(policy, _Blind(), Beam(1, 1), task, item, greedy)
                assert text == wanted and all(not tokens for _, tokens, *_ in nodes)
        assert policy.drift.checked > 2 and policy.drift.drifted == 0


class _Blind:
    async def score(self, prefixes):
        from search.types import Verdict

        return [Verdict(0.5) for _ in prefixes]


@pytest.mark.parametrize("name", SEARCHES)
async def test_greedy_searches_grow_the_same_trees_as_in_process(server, name):
    async with (
        endpoint(server) as policy,
        Embedded(POLICY, threads=1) as here,
        PRM(str(ROOT / "models" / "prm"), threads=1) as prm,
    ):
        for task in TASKS:
            for item in cut(task.items(), 2):
                asked = (prm, SEARCHES[name], task, item, replace(STEP, temperature=0.0))
                nodes, answer, spent = await grown(policy, *asked)
                wanted, text, cost = await grown(here, *asked)
                assert nodes == wanted and answer == text and text
                assert spent.generated == cost.generated and spent.passes == cost.passes


async def test_every_token_can_be_listed(server):
    async with endpoint(server) as policy, Embedded(POLICY, threads=1) as here:
        assert policy.vocabulary_size() == 416  # with the rows of the embedding that stand for no token
        for prefix in (Prefix(here.prompt(CHAT)), Prefix(here.prompt(CHAT)) + here.write("10-4=6 (left: 6 9 13)\n\n")):
            request = Request(prefix, Sampling(max_tokens=1), (), top=1000)
            found, wanted = [(await p.sample([request]))[0] for p in (policy, here)]
            assert len(found.segments) == 416 and found.cost.generated == 1
            for there, own in zip(found.segments[:12], wanted.segments[:12], strict=True):
                assert there.tokens == own.tokens and there.finish == own.finish
                assert there.logprobs == pytest.approx(own.logprobs, abs=2e-3)


STEPS = {
    "sentence": Sentence(),
    "tokens": Tokens(5),
    "pattern": Pattern("(?s).{20}.*?\n\n"),
    "delimiter": Delimiter((",", "\n\n")),
}


@pytest.mark.parametrize("until", STEPS.values(), ids=STEPS)
async def test_steps_end_where_they_do_in_process(server, until):
    async with (
        endpoint(server) as policy,
        Embedded(POLICY, threads=1) as here,
        PRM(str(ROOT / "models" / "prm"), threads=1) as prm,
    ):
        step = Sampling(temperature=0.0, max_tokens=48, until=until)
        asked = (prm, Beam(2, 2), Arithmetic(), cut(Arithmetic().items(), 1)[0], step)
        assert (await grown(policy, *asked))[:2] == (await grown(here, *asked))[:2]


async def test_steps_end_where_the_model_is_unsure(server):
    until = Entropy(nats=0.3, window=1, least=4)
    async with endpoint(server) as policy:
        prefix = Prefix(policy.prompt(CHAT))
        (reply,) = await policy.sample([Request(prefix, Sampling(max_tokens=40, until=until), tuple(range(40)))])
        steps = [segment for segment in reply.segments if segment.finish is Finish.STEP]
        assert steps and all(until.ends_by(s.text, s.logprobs) for s in steps)
        assert all(not until.ends_by(s.text, s.logprobs[:n]) for s in reply.segments for n in range(len(s.logprobs)))


@pytest.mark.parametrize("think", [18, 200])
async def test_thinking_is_closed_as_in_process(server, think):
    """The lines before the box as a section of thinking: its steps, its budget, its forced end, the answer's steps."""
    parts = {"open": "<|assistant|>", "close": "\\boxed{", "closing": "\\boxed{", "think_tokens": think}
    parts |= {"think_until": Tokens(7), "answer_until": Pattern("[*+-]"), "answer_tokens": 20}
    async with (
        Phased(endpoint(server), **parts) as policy,
        Phased(Embedded(POLICY, threads=1), **parts) as here,
    ):
        for search in (Beam(1, 1), Flat(1)):
            item, step = cut(Game24().items(), 1)[0], replace(STEP, temperature=0.0)
            found = await grown(policy, _Blind(), search, Game24(), item, step)
            assert found[:2] == (await grown(here, _Blind(), search, Game24(), item, step))[:2]
            assert found[1] is None or found[1].count("\\boxed{") == 1
            assert any("\\boxed{" in text for _, _, text, *_ in found[0])


@pytest.mark.parametrize("seeded", [True, False])
async def test_the_ledger_is_the_servers(server, seeded):
    async with endpoint(server, seeded=seeded) as policy:
        before = server.counters()
        spent = Cost()
        for search in (Beam(3, 3), MCTS(8, 3), ParticleFilter(6), Flat(4)):
            for task in TASKS:
                spent += (await grown(policy, _Blind(), search, task, cut(task.items(), 1)[0], STEP))[2]
        counted = {name: count - before[name] for name, count in server.counters().items()}
    assert spent.generated == counted["generated"]
    if seeded:
        assert spent.prefilled + spent.reused == counted["prompt"] and spent.reused == counted["reused"]
        assert spent.policy_calls == counted["requests"] and spent.reused > 0
    else:
        assert spent.policy_calls < counted["requests"] / 3


async def test_a_caller_who_leaves_stops_the_server(server):
    async with endpoint(server) as policy:
        prefix = Prefix(policy.prompt(CHAT))
        asked = Request(prefix, Sampling(max_tokens=480), tuple(range(32)))
        policy.connection.asking.extra.update(ignore_eos=True)
        drawing = asyncio.ensure_future(policy.sample([asked]))
        await asyncio.sleep(0.3)
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
        for _ in range(100):
            if not await asyncio.to_thread(_running, server):
                break
            await asyncio.sleep(0.1)
        assert not _running(server)
        policy.connection.asking.extra.clear()
        (reply,) = await policy.sample([replace(asked, seeds=(1,), sampling=STEP)])
        assert reply.segments[0].tokens


def _running(server):
    lines = httpx.get(f"{server.url.removesuffix('/v1')}/metrics", timeout=60, trust_env=False).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:num_requests_running{"))


async def test_a_busy_server_is_asked_less_and_gives_the_same(server):
    """In front of it something refuses whatever goes beyond five requests at once."""
    most, flying, refused = 5, [0], [0]

    async def gate(asked):
        if flying[0] >= most:
            refused[0] += 1
            return failed(429, "too many")
        flying[0] += 1
        try:
            async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
                address = server.url.removesuffix("/v1") + asked.path
                reply = await http.request(asked.method, address, content=asked.body, headers=_JSON)
            return Answer(reply.status_code, json.loads(reply.text))
        finally:
            flying[0] -= 1

    front = await listen(gate, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}/v1"
    try:
        async with (
            Endpoint(url, tokenizer=POLICY, start=32, pause=0.02, attempts=60) as policy,
            endpoint(server) as direct,
        ):
            asked = [Request(Prefix(policy.prompt(CHAT)), STEP, tuple(range(60)))]
            ((found,), (wanted,)) = await policy.sample(asked), await direct.sample(asked)
            client = policy.connection.client
            assert found.segments == wanted.segments
            assert refused[0] and client.throttle.cuts and client.throttle.limit < 16
            assert found.cost.policy_calls == 60 + client.retried and found.cost.generated == wanted.cost.generated
    finally:
        front.close()


_JSON = {"Content-Type": "application/json"}


async def test_a_server_that_dies_and_comes_back_changes_no_answer(server):
    searches = [(Beam(3, 3), task, item) for task in TASKS for item in cut(task.items(), 2)]
    async with (
        endpoint(server, attempts=200, pause=1.0, patience=300.0) as policy,
        PRM(str(ROOT / "models" / "prm"), threads=1) as prm,
    ):
        wanted = [await grown(policy, prm, *each, STEP) for each in searches]
        running = asyncio.gather(*(grown(policy, prm, *each, STEP) for each in searches))
        await asyncio.sleep(0.5)
        assert not running.done()
        server.kill()
        again = threading.Thread(target=server.start)
        again.start()
        found = await running
        await asyncio.to_thread(again.join)
        assert policy.connection.client.retried > 0
    assert [each[:2] for each in found] == [each[:2] for each in wanted]
    assert sum(each[2].policy_calls for each in found) > sum(each[2].policy_calls for each in wanted)


async def test_samples_follow_the_same_distribution(server):
    """First steps of one problem, drawn here and there, by a chi-squared test; seeds are fixed, so is the outcome."""
    from scipy.stats import chi2_contingency

    async with endpoint(server, concurrency=32) as policy, Embedded(POLICY, threads=1) as here:
        asked = [Request(Prefix(here.prompt(CHAT)), STEP, tuple(range(600)))]
        drawn = [[s.text for s in (await p.sample(asked))[0].segments] for p in (policy, here)]
    often = [text for text in set(drawn[0] + drawn[1]) if drawn[0].count(text) + drawn[1].count(text) >= 10]
    table = [[texts.count(text) for text in often] for texts in drawn]
    for row, texts in zip(table, drawn, strict=True):
        row.append(len(texts) - sum(row))
    assert chi2_contingency(table).pvalue > 0.01 and len(often) > 3


@pytest.mark.slow
@pytest.mark.skipif("not __import__('os').environ.get('TREEWISE_FULL')", reason="many minutes: set TREEWISE_FULL=1")
async def test_accuracy_agrees_over_200_problems(server):
    async with (
        endpoint(server) as policy,
        Embedded(POLICY, threads=1) as here,
        PRM(str(ROOT / "models" / "prm"), threads=1) as prm,
    ):
        task = Arithmetic()
        items = cut(task.items(), 200)
        for search in (Flat(1), Beam(2, 2)):
            began = time.monotonic()
            there, own = [(await trial(search, task, items, p, prm, 0)).accuracy for p in (policy, here)]
            error = sqrt(fmean([there * (1 - there), own * (1 - own)]) * 2 / len(items))
            print(f"{search}: {there:.3f} and {own:.3f}, {time.monotonic() - began:.0f} s")
            assert abs(there - own) < 1.96 * error
