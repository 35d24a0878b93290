"""The toy language: its distribution is what it says, and it keeps the laws of a policy."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.testing import LAWS
from policies.toy import END, Toy
from search.errors import ConfigError
from search.ports import Describes, KeepsPrefixes, Renders
from search.steps import Delimiter, Tokens
from search.types import Finish, Prefix, Request, Sampling, Segment

PROMPT = Prefix(Toy().prompt([{"role": "user", "content": "a question"}]))
CHAIN = {"": {"a": 0.7, "b": 0.3}, "a": {"a": 0.2, "b": 0.6, ".": 0.2}, "b": {"a": 0.2, "b": 0.2, ".": 0.6}}
TOYS = (Toy(), Toy("ab", length=7, end=0.2), Toy("ab", length=4, chain=CHAIN))
SAMPLINGS = (
    Sampling(until=Tokens(1)),
    Sampling(until=Tokens(3), temperature=0.7, max_tokens=2),
    Sampling(until=Delimiter(("b",)), top_k=2, top_p=0.9),
)


def after(*letters):
    prefix = PROMPT
    for letter in letters:
        prefix += Segment((ord(letter),), letter, (0.0,))
    return prefix


async def draw(toy, sampling, seeds, prefix=PROMPT):
    (reply,) = await toy.sample([Request(prefix, sampling, tuple(seeds))])
    return reply.segments


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: repr(sampling.until))
@pytest.mark.parametrize("toy", TOYS, ids=repr)
async def test_law(law, sampling, toy):
    await law(toy, [PROMPT, after("a"), after("b", "a")], sampling)


@given(st.sampled_from(TOYS), st.floats(0, 3), st.integers(0, 3), st.floats(0.05, 1))
def test_words_and_their_probabilities_make_a_distribution(toy, temperature, top_k, top_p):
    words = toy.probabilities(Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert math.fsum(words.values()) == pytest.approx(1)
    assert all(0 < p <= 1 + 1e-9 and len(word) <= toy.length for word, p in words.items())


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5), Sampling(top_k=1), Sampling(top_p=0.75)])
async def test_draws_follow_the_probabilities(sampling):
    toy, n = TOYS[2], 3000
    counts = Counter(segment.text for segment in await draw(toy, sampling, range(n)))
    words = toy.probabilities(sampling)
    assert set(counts) <= set(words)
    for word, p in words.items():
        assert abs(counts[word] - n * p) <= 4.5 * math.sqrt(n * p * (1 - p)) + 1e-6


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.5), Sampling(temperature=2.0, top_k=2)])
async def test_logprobs_are_those_of_the_distribution_sampled_from(sampling):
    toy = TOYS[2]
    words = toy.probabilities(sampling)
    for segment in await draw(toy, sampling, range(50)):
        assert len(segment.logprobs) == len(segment.tokens)
        assert math.exp(math.fsum(segment.logprobs)) == pytest.approx(words[segment.text])


@pytest.mark.parametrize(
    ("sampling", "row"),
    [
        (Sampling(), {"b": 0.6, "a": 0.2, END: 0.2}),
        (Sampling(temperature=0.5), {"b": 0.36 / 0.44, "a": 0.04 / 0.44, END: 0.04 / 0.44}),
        (Sampling(temperature=0.0), {"b": 1.0}),
        (Sampling(top_k=2), {"b": 0.75, "a": 0.25}),
        (Sampling(top_p=0.6), {"b": 1.0}),
        (Sampling(top_p=0.7), {"b": 0.75, "a": 0.25}),
    ],
)
def test_temperature_top_k_and_top_p(sampling, row):
    assert TOYS[2].distribution("a", sampling) == pytest.approx(row)


@pytest.mark.parametrize(
    ("word", "sampling", "text", "finish"),
    [
        ("ab", Sampling(until=Tokens(2)), "ca", Finish.STEP),
        ("ab", Sampling(until=Tokens(2), max_tokens=1), "c", Finish.LENGTH),
        ("ab", Sampling(until=Tokens(2), max_tokens=2), "ca", Finish.STEP),  # the boundary comes before the limit
        ("abca", Sampling(until=Tokens(2)), "b", Finish.END),  # the end of sequence comes before the boundary
        ("abca", Sampling(max_tokens=2), "b", Finish.END),
        ("abca", Sampling(max_tokens=1), "b", Finish.LENGTH),
        ("abcab", Sampling(until=Tokens(1)), "", Finish.EMPTY),
        ("abcab", Sampling(max_tokens=1), "", Finish.EMPTY),
    ],
)
async def test_why_a_segment_ends(word, sampling, text, finish):
    after_each = {before: {letter: 1.0} for before, letter in ("ab", "bc", "ca", ("", "a"))}
    toy = Toy(length=5, chain=after_each)
    (segment,) = await draw(toy, sampling, [0], after(*word))
    assert (segment.text, segment.finish) == (text, finish)
    ended = finish in (Finish.END, Finish.EMPTY)
    assert segment.tokens == tuple(map(ord, text + END * ended))  # the end was sampled, and is no text
    assert segment.logprobs == (0.0,) * len(segment.tokens)


async def test_cost_is_what_was_sampled_and_read():
    (reply,) = await Toy().sample([Request(after("a", "b"), Sampling(), (1, 2, 3))])
    assert reply.cost.generated == 3 * (3 + 1)
    assert reply.cost.prefilled == len("a question") + 2
    assert reply.cost.policy_calls == 1


def test_abilities():
    assert isinstance(Toy(), Renders) and isinstance(Toy(), Describes) and not isinstance(Toy(), KeepsPrefixes)
    assert Toy(end=0.1).fingerprint != Toy().fingerprint
    prompt = Toy().prompt([{"role": "system", "content": "ab"}, {"role": "user", "content": "c"}])
    assert (prompt.text, prompt.tokens) == ("ab c", tuple(map(ord, "ab c")))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"letters": ""}, "letters"),
        ({"letters": "ab."}, "letters"),
        ({"letters": "aa"}, "letters"),
        ({"length": 0}, "length"),
        ({"end": 1.5}, "end"),
        ({"chain": {"": {"a": 0.5}}}, "chain['']"),
        ({"chain": {"": {"x": 1.0}}}, "chain['']"),
        ({"chain": {"": {"a": 1.0}, "b": {"a": 1.0}, "c": {"a": 1.0}}}, "chain['a']"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Toy(**fields)
    assert caught.value.field == field
