"""Searches in hardly any memory, and draws on random trees, against runs without limits and plain `transformers`."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.embedded import Embedded
from policies.engine.engine import Engine
from policies.engine.kv import KV
from policies.engine.load import language_model
from policies.engine.sampler import Numbers, sample
from policies.tiny import checkpoint
from search.algorithms.beam import Beam
from search.algorithms.mcts import MCTS
from search.algorithms.token_beam import TokenBeam
from search.session import Session
from search.steps import Tokens
from search.types import Sampling, Verdict

STEP = Sampling(until=Tokens(4), max_tokens=4)
SEARCHES = [Beam(beams=3, width=4, depth=5), MCTS(simulations=24, width=3), TokenBeam(beams=4, length=12)]
PROBLEMS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("policy"), scale=0.25))


class Longest:
    """Scores by the tokens alone."""

    async def score(self, prefixes):
        return [Verdict(sum(prefix.tokens) % 97 / 97) for prefix in prefixes]


@pytest.mark.parametrize("search", SEARCHES, ids=lambda search: type(search).__name__)
@pytest.mark.parametrize("speculate", [None, "ngram"])
def test_a_search_in_a_tenth_of_the_memory_it_needs_grows_the_same_tree(folder, search, speculate, monkeypatch):
    evicted, peak = 0, 0
    real = {name: getattr(KV, name) for name in ("evict", "insert")}

    def evict(kv, count):
        nonlocal evicted
        freed = real["evict"](kv, count)
        evicted += freed
        return freed

    def insert(kv, *what):
        nonlocal peak
        found = real["insert"](kv, *what)
        peak = max(peak, kv.held)
        return found

    monkeypatch.setattr(KV, "evict", evict)
    monkeypatch.setattr(KV, "insert", insert)

    async def grow(**settings):
        async with Embedded(folder, speculate=speculate, **settings) as policy:
            if policy.engine.speculation is not None:
                policy.engine.speculation.governor.forced = True
            prompts = [policy.prompt([{"role": "user", "content": f"{i}: {'x' * (i % 5)}"}]) for i in range(PROBLEMS)]
            sessions = [Session(p, policy, Longest(), step=STEP, whole=STEP.to_the_end(16)) for p in prompts]
            await asyncio.gather(*map(search, sessions))
            engine = policy.engine
            trees = [[(node.id, node.segment.tokens, node.times) for node in session.tree] for session in sessions]
            costs = [session.budget.spent for session in sessions]
            return trees, sum(cost.prefilled for cost in costs), engine.token_bytes, engine.kv.slots

    rich, computed, token, _ = asyncio.run(grow(max_context=40))
    need = peak
    assert evicted == 0
    poor, again, _, slots = asyncio.run(grow(memory=token * (need // 10 + 1), max_context=40))
    assert slots <= need // 10 and peak == need, "it never held more than a tenth"
    assert poor == rich
    assert evicted > 0 and again > computed


def test_draws_on_random_trees_are_those_of_plain_transformers_in_float64(folder):
    """Several draws from nodes of trees that grow at random, all at once, against a forward over each whole path."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    settings = [(0.0, 0, 1.0), (0.8, 0, 1.0), (1.0, 0, 0.9), (0.7, 5, 1.0)]

    def oracle(ids, seed, count, heat, top_k, top_p):
        drawn, logprobs = (), []
        for at in range(count):
            with torch.inference_mode():
                logits = plain(torch.tensor([ids + drawn])).logits[:, -1]
            one = sample(logits, Numbers(*(np.array([x]) for x in (seed, at, heat, top_k, top_p))))
            drawn, logprobs = (*drawn, int(one.tokens[0])), [*logprobs, float(one.logprobs[0])]
        return drawn, logprobs

    async def grow(engine):
        rng, trees, asked = random.Random(0), [], []
        for _ in range(6):
            trees.append([tuple(rng.randrange(4, 260) for _ in range(rng.randrange(2, 20)))])
        for _ in range(4):
            calls = []
            for nodes in trees:
                ids, heat = rng.choice(nodes), rng.choice(settings)
                # from a node, or from the middle of a step
                ids = ids[: rng.randrange(2, len(ids) + 1)] if rng.random() < 0.3 else ids
                calls.append((nodes, ids, rng.randrange(1 << 40), rng.randrange(1, 7), heat))
            drawn = await asyncio.gather(
                *(
                    engine.sample(ids, (seed,), limit=count, temperature=heat[0], top_k=heat[1], top_p=heat[2])
                    for _, ids, seed, count, heat in calls
                )
            )
            for (nodes, ids, seed, count, heat), reply in zip(calls, drawn, strict=True):
                nodes.append(ids + reply.draws[0].tokens)
                asked.append((ids, seed, count, heat, reply.draws[0]))
        return asked

    model = language_model(Path(folder), "float64", "cpu")
    for memory in (8 << 20, model.layers * model.heads * model.width * 16 * 60):
        engine = Engine(model, memory)
        engine.start()
        try:
            asked = asyncio.run(grow(engine))
        finally:
            engine.close()
        for ids, seed, count, heat, draw in asked:
            tokens, logprobs = oracle(ids, seed, count, *heat)
            assert draw.tokens == tokens
            assert draw.logprobs == pytest.approx(logprobs, abs=1e-5), "the sampler works in float32"
