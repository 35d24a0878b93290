"""How segments of the embedded policy end, on models that say exactly what they are told to."""

import asyncio
import itertools
import json
import math

import pytest

from policies.embedded import Embedded
from policies.tiny import scripted, tokenizer
from search.contract import checked_reply
from search.steps import Delimiter, Pattern, Tokens
from search.types import Cost, Finish, Prefix, Request, Sampling, Segment

WORDS = tokenizer()
SURE = 60.0  # a logit so far above the others that nothing else is ever drawn


def ids_of(text):
    return WORDS.encode(text, add_special_tokens=False)


def follow(*texts):
    """Each text's last token leads to the first of the next, and within a text each token to its neighbour."""
    chain = [i for text in texts for i in (ids_of(text) if isinstance(text, str) else [text])]
    assert len(set(chain[:-1])) == len(chain) - 1, "the model sees the last token alone"
    return {a: {b: SURE} for a, b in itertools.pairwise(chain)}


def sampled(folder, start, sampling, seeds=(1,), **settings):
    async def main():
        async with Embedded(str(folder), **settings) as policy:
            prefix = Prefix(Segment(tuple(ids_of(start)), start))
            request = Request(prefix, sampling, seeds)
            reply = (await policy.sample([request]))[0]
            return checked_reply(request, reply)

    return asyncio.run(main())


def one(folder, start, sampling, **settings):
    segment = sampled(folder, start, sampling, **settings).segments[0]
    return segment.text, segment.finish


STEP = Sampling(until=Delimiter(), max_tokens=20)
END = WORDS.eos_token_id


def test_a_step_ends_at_its_delimiter_also_where_a_token_merges_it(tmp_path):
    assert len(ids_of("x.\n\n")) == 2 and len(ids_of("x\n\n=")) == 2
    plain = scripted(tmp_path / "plain", follow("q", "abc", "\n\n", "d"))
    assert one(plain, "q", STEP) == ("abc\n\n", Finish.STEP)
    before = scripted(tmp_path / "before", follow("q", "abc.\n\n", "d"))
    assert one(before, "q", STEP) == ("abc.\n\n", Finish.STEP)
    after = scripted(tmp_path / "after", follow("q", "abc\n\n=", "d"))
    segment = sampled(after, "q", STEP).segments[0]
    assert (segment.text, segment.finish) == ("abc\n\n=", Finish.STEP), "tokens are the truth: nothing is cut off"
    assert segment.tokens == tuple(ids_of("abc\n\n="))


def test_blank_text_before_a_delimiter_is_not_a_step(tmp_path):
    folder = scripted(tmp_path, follow("q", "\n\n", "ab", END))
    assert one(folder, "q", STEP) == ("\n\nab", Finish.END)


def test_end_empty_step_and_length_are_four_things(tmp_path):
    ends = scripted(tmp_path / "ends", follow("q", "ab", END))
    segment = sampled(ends, "q", STEP).segments[0]
    assert (segment.text, segment.finish, segment.tokens[-1]) == ("ab", Finish.END, END)
    assert len(segment.logprobs) == 3 and sampled(ends, "q", STEP).cost.generated == 3
    empty = scripted(tmp_path / "empty", follow("q", END))
    assert one(empty, "q", STEP) == ("", Finish.EMPTY)
    assert one(ends, "q", Sampling(until=Delimiter(), max_tokens=2)) == ("ab", Finish.LENGTH)
    assert one(ends, "q", Sampling(until=Tokens(2), max_tokens=2)) == ("ab", Finish.STEP)
    assert one(ends, "q", Sampling(until=Tokens(3), max_tokens=3)) == ("ab", Finish.END), "the end comes first"


def test_the_context_limit_is_a_length(tmp_path):
    folder = scripted(tmp_path, follow("q", "abcdefgh", END))
    assert one(folder, "q", Sampling(max_tokens=50), max_context=5) == ("abcd", Finish.LENGTH)
    full = sampled(folder, "qabcd", Sampling(), max_context=5)
    assert full.segments[0] == Segment((), "", (), Finish.LENGTH)
    assert full.cost == Cost(policy_calls=1)


def test_any_of_several_end_tokens_ends(tmp_path):
    other = ids_of("!")[0]
    folder = scripted(tmp_path, follow("q", "ab", "!", "c"))
    assert one(folder, "q", Sampling(max_tokens=4)) == ("ab!c", Finish.LENGTH)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [END, other]}))
    assert one(folder, "q", Sampling(max_tokens=4)) == ("ab", Finish.END)


def test_a_character_in_several_tokens(tmp_path):
    folder = scripted(tmp_path, follow("q", "\u20ac", "b", END))
    assert one(folder, "q", Sampling(until=Pattern("\u20ac"), max_tokens=9)) == ("\u20ac", Finish.STEP)
    assert one(folder, "q", Sampling(until=Tokens(2), max_tokens=9)) == ("\ufffd", Finish.STEP)
    assert one(folder, "q", Sampling(max_tokens=9)) == ("\u20acb", Finish.END)


def test_draws_of_the_whole_policy_follow_the_known_distribution(tmp_path):
    letters, logits = ids_of("abcd"), [1.0, 0.5, 0.0, -1.0]
    folder = scripted(tmp_path, {ids_of("q")[0]: {i: 20 + x for i, x in zip(letters, logits, strict=True)}})
    count = 2000
    reply = sampled(folder, "q", Sampling(0.8, top_k=3, max_tokens=1), tuple(range(count)))
    weights = [math.exp(x / 0.8) for x in logits[:3]]
    expected = [count * w / sum(weights) for w in weights]
    seen = [sum(s.text == letter for s in reply.segments) for letter in "abc"]
    assert sum(seen) == count
    assert sum((a - b) ** 2 / b for a, b in zip(seen, expected, strict=True)) < 12
    for segment in reply.segments[:20]:
        share = weights["abc".index(segment.text)] / sum(weights)
        assert segment.logprobs[0] == pytest.approx(math.log(share), abs=1e-3)
