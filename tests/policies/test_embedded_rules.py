"""What ends a step of the embedded policy by its log-probabilities, and rules that are not asked at every token."""

import asyncio
from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.embedded import Embedded
from policies.phased import Phased
from policies.tiny import checkpoint
from search.algorithms.beam import Beam
from search.session import Session
from search.steps import Delimiter, Entropy
from search.types import Finish, Prefix, Request, Sampling, Verdict

MESSAGES = [{"role": "user", "content": "Make 24 from 4 9 10 13."}]
UNSURE = Entropy(nats=4.5, window=2, least=3, most=14)
GUESSES = [None, "ngram", ["recycle", "ngram"]]
SEEDS = tuple(range(24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("policy"), end_bias=1.5, scale=0.25))


def drawn(folder, sampling, speculate=None):
    async def main():
        async with Embedded(folder, speculate=speculate) as policy:
            if policy.engine.speculation is not None:
                policy.engine.speculation.governor.forced = True
            prefix = Prefix(policy.prompt(MESSAGES))
            segments = (await policy.sample([Request(prefix, sampling, SEEDS)]))[0].segments
            return prefix, segments, policy.guesses

    return asyncio.run(main())


def plain_costs(model, prefix, tokens, heat, top_p):
    """By a forward of `transformers`: log-probabilities of `tokens` in the distribution sampled from."""
    with torch.inference_mode():
        logits = model(torch.tensor([prefix.tokens + tokens])).logits[0, len(prefix.tokens) - 1 : -1]
    found = []
    for row, token in zip(logits / heat, tokens, strict=True):
        share, order = row.softmax(-1).sort(descending=True, stable=True)
        kept = share[(share.cumsum(-1) - share) < top_p]
        found.append(float((kept / kept.sum()).log()[order.tolist().index(token)]))
    return found


@pytest.mark.parametrize("speculate", GUESSES, ids=str)
@pytest.mark.parametrize(("heat", "top_p"), [(1.0, 1.0), (0.8, 0.9)])
def test_steps_end_where_a_plain_forward_is_unsure(folder, heat, top_p, speculate):
    sampling = Sampling(heat, top_p=top_p, max_tokens=20, until=UNSURE)
    prefix, long, _ = drawn(folder, sampling.to_the_end(20))
    _, short, guesses = drawn(folder, sampling, speculate)
    model, lengths = AutoModelForCausalLM.from_pretrained(folder), set()
    for whole, step in zip(long, short, strict=True):
        costs = plain_costs(model, prefix, whole.tokens, heat, top_p)
        last = len(whole.tokens) - (whole.finish in (Finish.END, Finish.EMPTY))
        end = next((n for n in range(1, last + 1) if UNSURE.ends_by("", costs[:n])), None)
        assert step.tokens == whole.tokens[:end]
        assert step.finish is (Finish.STEP if end else whole.finish)
        assert step.logprobs == pytest.approx(costs[:end], abs=1e-3)
        lengths.add(end)
    assert {3, 14} & lengths and len(lengths) > 4, "sure and unsure steps"
    assert guesses is None or sum(guesses["accepted"].values()) > 3


def test_greedy_draws_are_never_unsure(folder):
    _, segments, _ = drawn(folder, Sampling(0.0, max_tokens=20, until=Entropy(nats=0.1, least=1)))
    assert {segment.finish for segment in segments} <= {Finish.LENGTH, Finish.END}


def test_a_search_by_entropy_is_the_same_with_guesses_and_in_phases(folder):
    class Longest:
        async def score(self, prefixes):
            return [Verdict(1 / (1 + len(prefix.text))) for prefix in prefixes]

    async def grow(speculate):
        async with Embedded(folder, speculate=speculate) as policy:
            if speculate:
                policy.engine.speculation.governor.forced = True
            trees = []
            for asked in (policy, Phased(policy, think_tokens=12)):
                step = Sampling(0.9, max_tokens=20, until=UNSURE)
                prompt = asked.prompt(MESSAGES)
                session = Session(prompt, asked, Longest(), step=step, whole=step.to_the_end(20))
                await Beam(2, 3, depth=4)(session)
                trees.append([(node.segment.tokens, node.segment.finish) for node in session.tree])
            return trees

    plain = asyncio.run(grow(None))
    assert all(len(tree) > 8 for tree in plain)
    assert asyncio.run(grow("ngram")) == plain


@dataclass(frozen=True)
class Asked(Delimiter):
    """A delimiter of another type: it is asked after every token."""


@pytest.mark.parametrize("speculate", GUESSES[:2], ids=str)
@pytest.mark.parametrize("strings", [("1",), ("ab", "\n\n"), ("\u20ac", "\u00e9", "q", "z")], ids=str)
def test_a_delimiter_that_is_asked_at_some_tokens_ends_where_it_would_when_asked_at_all(folder, strings, speculate):
    def ends(boundary):
        _, segments, _ = drawn(folder, Sampling(1.0, max_tokens=60, until=boundary), speculate)
        return [(segment.tokens, segment.text, segment.finish) for segment in segments]

    often = ends(Asked(strings))
    assert ends(Delimiter(strings)) == often
    assert strings != ("1",) or any(finish is Finish.STEP for *_, finish in often)
