"""The embedded policy lists tokens and takes text: what token-level searches and later turns stand on."""

import asyncio
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.embedded import Embedded
from policies.tiny import checkpoint
from search.contract import checked_reply
from search.cuts import cut
from search.errors import ConfigError
from search.ports import Enumerates, Writes, ability
from search.session import Session
from search.steps import Tokens
from search.types import Finish, Prefix, Request, Sampling, Segment

MESSAGES = [{"role": "user", "content": "Make 24 from 4 9 10 13."}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("policy"), end_bias=1.5, scale=0.25))


def with_policy(folder, work):
    async def main():
        async with Embedded(folder) as policy:
            return await work(policy)

    return asyncio.run(main())


def listed(prefix, top):
    return Request(prefix, Sampling(max_tokens=1), (), top=top)


def test_the_whole_vocabulary_is_listed_with_the_models_own_probabilities(folder):
    async def work(policy):
        assert ability(policy, Enumerates) is policy and ability(policy, Writes) is policy
        prefix = Prefix(policy.prompt(MESSAGES))
        request = listed(prefix, policy.vocabulary_size() + 5)
        (reply,) = await policy.sample([request])
        checked_reply(request, reply)
        assert (reply.cost.generated, reply.cost.policy_calls) == (1, 1)
        (few,) = await policy.sample([listed(prefix, 3)])
        assert [s.tokens for s in few.segments] == [s.tokens for s in reply.segments[:3]]
        assert (few.cost.prefilled, few.cost.reused) == (0, len(prefix.tokens))
        return prefix, reply.segments

    prefix, segments = with_policy(folder, work)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = model(torch.tensor([prefix.tokens])).logits[0, -1, : len(segments)].log_softmax(-1)
    for segment in segments:
        assert segment.logprobs[0] == pytest.approx(expected[segment.tokens[0]].item(), abs=1e-4)
    assert math.fsum(math.exp(s.logprobs[0]) for s in segments) == pytest.approx(1, abs=1e-4)
    assert sum(s.finish is Finish.EMPTY for s in segments) == 1


def test_texts_of_listed_tokens_add_up_to_the_text_of_the_path(folder):
    async def work(policy):
        vocabulary = policy._ready.vocabulary
        path = [*vocabulary.encode("1\u20ac\u00e9"), *vocabulary.encode(" x")]  # characters of several tokens
        pieces = [policy._ready.listed(tuple(path[:i]), [token], [-1.0])[0].text for i, token in enumerate(path)]
        return pieces, vocabulary.text(path)

    pieces, text = with_policy(folder, work)
    assert "".join(pieces) == text
    assert "" in pieces  # a character is said once it is complete


def test_a_turn_is_what_the_template_puts_between(folder):
    async def work(policy):
        session = Session(policy.prompt(MESSAGES), policy, None, step=Sampling(until=Tokens(2)), whole=Sampling())
        for _ in range(50):
            leaf = await session.complete(session.root)
            if leaf.segment.finish is Finish.END:
                break
        turn = session.extend(leaf, "Again.", by="user")
        said = [*MESSAGES, {"role": "assistant", "content": leaf.prefix.text}, {"role": "user", "content": "Again."}]
        assert policy._ready.vocabulary.text(turn.prefix.tokens) == policy.prompt(said).text
        note = session.extend(session.root, "so 4")
        assert note.segment == Segment(policy._ready.vocabulary.encode("so 4"), "so 4", by="environment")
        assert (await session.complete(turn)).prefix.reply[0].by == "policy"

    with_policy(folder, work)


def test_tokens_read_as_the_text_of_their_segment(folder):
    async def work(policy):
        session = Session(policy.prompt(MESSAGES), policy, None, step=Sampling(until=Tokens(6)), whole=Sampling())
        steps = [*await session.expand(session.root, 6), *[await session.complete(session.root) for _ in range(4)]]
        assert {policy.text(node.segment.tokens) == node.segment.text for node in steps} == {True}
        long = next(node for node in steps if len(node.segment.tokens) > 2 and not node.terminal)
        short = cut(session, long, 2)
        assert short.segment.tokens == long.segment.tokens[:2] and not short.terminal
        (grown,) = await session.expand(short, 1)
        assert grown.prefix.tokens[: len(short.prefix.tokens)] == short.prefix.tokens

    with_policy(folder, work)


def test_a_template_that_rewrites_what_was_said_takes_no_turn(folder, tmp_path):
    import shutil

    other = tmp_path / "rewrites"
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").write_text("<|user|>{{ messages | length }}{{ messages[-1].content }}<|assistant|>")

    async def work(policy):
        policy.turn("Again.")

    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        with_policy(str(other), work)
