"""Searches over vLLM: the embedded engine's trees where nothing is drawn, its accuracy where much is, exact ledgers."""

from __future__ import annotations

import asyncio
import os

import pytest

from experiments.tasks.reference import Arithmetic
from search.algorithms.astar import AStar
from search.algorithms.beam import Beam
from search.algorithms.best_first_beam import BestFirstBeam
from search.algorithms.flat import Flat
from search.algorithms.kcts import Kcts
from search.algorithms.mcts import MCTS
from search.algorithms.particles import ParticleFilter
from search.algorithms.phi import Phi
from search.algorithms.rebase import Rebase
from search.algorithms.token_beam import TokenBeam
from search.algorithms.token_mcts import TokenMcts
from search.run import run
from search.select import Best
from search.session import Session
from search.steps import Delimiter
from search.types import Sampling

pytestmark = pytest.mark.vllm

GREEDY = Sampling(0.0, max_tokens=96, until=Delimiter(("\n\n",)))
DRAWN = Sampling(0.8, max_tokens=96, until=Delimiter(("\n\n",)))
SEARCHES = {
    "best_of_n": Flat(4),
    "beam": Beam(beams=2, width=3),
    "dvts": Beam(beams=2, width=2, subtrees=2),
    "astar": AStar(width=3),
    "mcts": MCTS(6, 2),
    "rebase": Rebase(samples=4),
    "particles": ParticleFilter(particles=3),
    "token_beam": TokenBeam(beams=3),
    "best_first_beam": BestFirstBeam(beams=3),
    "token_mcts": TokenMcts(simulations=10),
    "kcts": Kcts(simulations=6, top=3),
}


def session(prompt, policy, verifier, step=GREEDY, seed=0):
    whole = step.to_the_end(256)
    return Session(prompt.prompt, policy, verifier, question=prompt.question, step=step, whole=whole, seed=seed)


async def searched(search, prompts, policy, verifier, step=GREEDY, seed=0):
    sessions = [session(prompt, policy, verifier, step, seed) for prompt in prompts]
    return await asyncio.gather(*(run(search, each, Best()) for each in sessions))


@pytest.mark.parametrize("name", SEARCHES)
def test_where_nothing_is_drawn_the_tree_is_the_embedded_one(name, loop, policy, prm, embedded, plain_prm, prompts):
    ours = loop(searched(SEARCHES[name], prompts, policy, prm))
    theirs = loop(searched(SEARCHES[name], prompts, embedded, plain_prm))
    for one, other in zip(ours, theirs, strict=True):
        assert len(one.tree) > 1 and (one.answer is None) == (other.answer is None)
        if one.answer is not None:
            assert one.answer.prefix.text == other.answer.prefix.text
        for a, b in zip(one.tree, other.tree, strict=True):
            assert (a.id, a.segment.tokens, a.segment.text, a.segment.finish) == (
                b.id,
                b.segment.tokens,
                b.segment.text,
                b.segment.finish,
            )
            assert (a.visits, a.times, a.scored) == (b.visits, b.times, b.scored)
            assert not a.scored or a.score == pytest.approx(b.score, abs=1e-4)
        assert one.spent.generated == other.spent.generated


@pytest.mark.parametrize(
    "search", [Beam(beams=4, width=4), MCTS(12, 3, parallel=4), Phi(beams=2, width=2, rounds=3, least=1)]
)
def test_the_ledger_is_vllms_own(search, loop, policy, prm, prompts):
    before = [vars(part.host.counters).copy() for part in (policy, prm)]
    prm._forget()
    outcomes = loop(searched(search, prompts, policy, prm, DRAWN, seed=5))
    drew, read = (
        {name: value - old[name] for name, value in vars(part.host.counters).items()}
        for part, old in zip((policy, prm), before, strict=True)
    )
    spent = sum((outcome.spent for outcome in outcomes[1:]), outcomes[0].spent)
    assert spent.generated == drew["generated"] > 0
    # what the policy and the verifier found in their caches is one number in a ledger
    assert spent.prefilled + spent.read + spent.reused == drew["prompt"] + read["prompt"]
    assert spent.reused == drew["cached"] + read["cached"]
    assert spent.prefilled == drew["prompt"] - drew["cached"]


def test_a_search_is_the_same_whatever_runs_beside_it(loop, policy, prm, prompts):
    (alone,) = loop(searched(Beam(beams=3, width=3), prompts[:1], policy, prm, DRAWN, seed=3))
    among = loop(searched(Beam(beams=3, width=3), prompts, policy, prm, DRAWN, seed=3))[0]
    assert [node.segment.tokens for node in alone.tree] == [node.segment.tokens for node in among.tree]


async def accuracy(items, task, policy, verifier, seed):
    gate = asyncio.Semaphore(32)

    async def one(item):
        async with gate:
            prompt = policy.prompt(task.messages(item))
            made = Session(
                prompt, policy, verifier, question=item.question, step=DRAWN, whole=DRAWN.to_the_end(256), seed=seed
            )
            outcome = await run(Beam(beams=4, width=4), made, Best())
            grade = await task.grade(item, outcome.answer.prefix.text if outcome.answer else "")
            return grade.verdict == "right"

    return await asyncio.gather(*map(one, items))


@pytest.mark.skipif(os.environ.get("TREEWISE_FULL") != "1", reason="long: TREEWISE_FULL=1 runs it")
def test_where_much_is_drawn_the_accuracy_is_the_embedded_one(loop, policy, prm, embedded, plain_prm, capsys):
    task = Arithmetic()
    items = list(task.items())[:200]
    ours = [right for seed in (1, 2, 3) for right in loop(accuracy(items, task, policy, prm, seed))]
    theirs = [right for seed in (1, 2, 3) for right in loop(accuracy(items, task, embedded, plain_prm, seed))]
    apart = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = sum(apart) / len(apart)
    error = (sum((x - mean) ** 2 for x in apart) / (len(apart) - 1) / len(apart)) ** 0.5
    with capsys.disabled():
        print(f"\nvLLM {sum(ours)} of {len(ours)} right, embedded {sum(theirs)}: {mean:+.3f} +- {1.96 * error:.3f}")
    assert abs(mean) <= 1.96 * error + 1e-9
