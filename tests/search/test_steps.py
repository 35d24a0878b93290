"""Boundaries: where a step ends, also where tokens merge a delimiter with its neighbours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.errors import ConfigError
from search.steps import Delimiter, Pattern, Sentence, Tokens
from search.types import Boundary

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
