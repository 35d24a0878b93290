"""Boundaries: where a step ends, also where tokens merge a delimiter with its neighbours."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.toy import Toy
from search.errors import ConfigError
from search.steps import Delimiter, Entropy, Pattern, Sentence, Tokens, ended
from search.types import Boundary, Prefix, Request, Sampling

BOUNDARIES = (Delimiter(), Delimiter((";", "\n")), Sentence(), Tokens(3), Pattern(r"\d\s"))


def cut(boundary: Boundary, tokens: list[str]) -> list[str]:
    """Texts of the steps that `tokens` make, as a policy would cut them."""
    steps, text, count = [], "", 0
    for token in tokens:
        text, count = text + token, count + 1
        if boundary.ends(text, count):
            steps.append(text)
            text, count = "", 0
    return steps + [text] * bool(text)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=repr)
@given(tokens=st.lists(st.text(alphabet="a1 .\n;", min_size=1, max_size=3), max_size=20))
def test_steps_add_up_to_the_text_and_end_at_the_first_token_they_can(boundary, tokens):
    steps = cut(boundary, tokens)
    assert "".join(steps) == "".join(tokens)
    for step in steps[:-1]:
        assert boundary.ends(step, 10**6) or isinstance(boundary, Tokens)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=repr)
def test_boundaries_are_values(boundary):
    """Seeds and journals are keyed by their `repr`; requests, by their hash."""
    again = eval(repr(boundary))
    assert again == boundary and hash(again) == hash(boundary)
    assert isinstance(boundary, Boundary)


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [
        (["a", "\n\n", "b"], ["a\n\n", "b"]),
        (["a", "\n", "\n", "b"], ["a\n\n", "b"]),  # the delimiter in two tokens
        (["a", ".\n\n", "b"], ["a.\n\n", "b"]),  # merged with what is before it
        (["a", "\n\nb", "c"], ["a\n\nb", "c"]),  # merged with what comes after: tokens are not cut
        (["a", "\n\n\n\n", "b"], ["a\n\n\n\n", "b"]),
        (["\n\n", "a", "\n\n", "b"], ["\n\na\n\n", "b"]),  # blank text alone is not a step
        ([" \n\n \n\n"], [" \n\n \n\n"]),
        ([" ", "\n\na\n\n", "b"], [" \n\na\n\n", "b"]),
    ],
)
def test_delimiter(tokens, steps):
    assert cut(Delimiter(), tokens) == steps


def test_a_delimiter_that_is_not_blank_does_not_end_the_step_it_begins():
    assert cut(Delimiter(("Step",)), ["Step", " 1: a\n", "Step", " 2: b"]) == ["Step 1: a\nStep", " 2: b"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It is so. Then it is not.", ["It is so. ", "Then it is not."]),
        ("1. First, add 3.5 to it. Then", ["1. First, add 3.5 to it. ", "Then"]),
        ("Really?! Yes", ["Really?! ", "Yes"]),
        ("He said (so.) Then", ["He said (so.) ", "Then"]),
        ("A line\nAnother", ["A line\n", "Another"]),
        ("3.5 + 4. 2", ["3.5 + 4. 2"]),
    ],
)
def test_sentence(text, sentences):
    assert cut(Sentence(), list(text)) == sentences


def test_tokens_counts_tokens_and_not_characters():
    assert cut(Tokens(2), ["abc", "d", "ef", "g", "h"]) == ["abcd", "efg", "h"]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Delimiter(()), "strings"),
        (lambda: Delimiter(("", "a")), "strings"),
        (lambda: Tokens(0), "count"),
        (lambda: Pattern("("), "regex"),
        (lambda: Pattern("a*"), "regex"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_a_delimiter_may_come_as_a_list_or_alone():
    assert Delimiter(["a", "b"]) == Delimiter(("a", "b"))
    assert Delimiter("ab") == Delimiter(("ab",))


def test_entropy_ends_where_the_last_tokens_are_dear():
    unsure = Entropy(nats=2.0, window=2, least=3, most=6)
    assert not unsure.ends_by("ab", [-9.0, -9.0])
    assert unsure.ends_by("abc", [0.0, -1.0, -3.0]) and not unsure.ends_by("abc", [-9.0, -1.0, -2.9])
    assert unsure.ends_by("abcdef", [0.0] * 6) and not unsure.ends_by("abcde", [0.0] * 5)
    assert ended(unsure, "abc", [0.0, -2.0, -2.0]) and ended(Tokens(2), "ab", [0.0, 0.0])
    with pytest.raises(ConfigError, match="lacks"):
        unsure.ends("abc", 3)
    for field, value in (("nats", 0.0), ("window", 0), ("least", 1), ("most", 2)):
        with pytest.raises(ConfigError) as error:
            Entropy(**{"nats": 2.0, "window": 2, "least": 3, "most": 6, field: value})
        assert error.value.field == field


async def test_the_estimate_of_entropy_is_unbiased():
    """Over a language with known entropy, the mean cost of a drawn token is that entropy."""
    chain = {"": {"a": 0.5, "b": 0.25, "c": 0.25}, **{x: {"a": 0.5, "b": 0.25, "c": 0.25} for x in "abc"}}
    policy = Toy("abc", length=500, chain=chain)
    request = Request(Prefix(policy.write("q")), Sampling(max_tokens=400), (1, 2, 3, 4, 5))
    (reply,) = await policy.sample([request])
    costs = [-x for segment in reply.segments for x in segment.logprobs]
    assert abs(sum(costs) / len(costs) - 1.5 * math.log(2)) < 4 * 0.35 / math.sqrt(2000)
