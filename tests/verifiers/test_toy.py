"""The toy verifier: what it says of a word, and the laws of a verifier."""

import pytest

from search.ports import Describes
from search.types import Finish, Prefix, Segment
from verifiers.testing import LAWS
from verifiers.toy import Hidden

PROMPT = Prefix(Segment((1,), "q"))


def after(*steps, finish=Finish.STEP):
    prefix = PROMPT
    for number, text in enumerate(steps, start=1):
        last = number == len(steps)
        prefix += Segment(tuple(map(ord, text)), text, (0.0,) * len(text), finish if last else Finish.STEP)
    return prefix


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("strict", [False, True])
async def test_law(law, strict):
    prefixes = [
        PROMPT,
        after("a"),
        after("ab", "b"),
        after("abc", finish=Finish.END),
        after("x", "", finish=Finish.EMPTY),
    ]
    await law(Hidden("abc", strict), prefixes)


@pytest.mark.parametrize(
    ("prefix", "value", "strict"),
    [
        (PROMPT, 1.0, 1.0),
        (after("a"), 1.0, 1.0),
        (after("ab", "b"), 2 / 3, 0.0),
        (after("x"), 0.0, 0.0),
        (after("ab", finish=Finish.END), 2 / 3, 0.0),  # complete, and too short
        (after("abc", finish=Finish.END), 1.0, 1.0),
        (after("abc", "", finish=Finish.EMPTY), 1.0, 1.0),
        (after("abcd", finish=Finish.END), 3 / 4, 0.0),
        (after("ab", finish=Finish.LENGTH), 1.0, 1.0),  # cut: as far as it goes
    ],
)
async def test_the_share_of_letters_that_are_right(prefix, value, strict):
    (verdict,) = await Hidden("abc").score([prefix])
    assert verdict.value == pytest.approx(value)
    assert len(verdict.steps) == len(prefix.steps)
    assert verdict.steps[-1:] in ((), (verdict.value,))
    assert (verdict.cost.passes, verdict.cost.read) == (1, len(prefix.tokens))
    assert (await Hidden("abc", strict=True).score([prefix]))[0].value == strict


def test_it_says_what_it_is():
    assert isinstance(Hidden("a"), Describes)
    assert Hidden("a").fingerprint != Hidden("b").fingerprint
