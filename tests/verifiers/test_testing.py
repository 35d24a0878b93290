"""The laws of a verifier bite: each verifier here breaks one, and is caught."""

import random
from dataclasses import replace

import pytest

from search.errors import VerifierError
from search.types import Prefix, Segment, Verdict
from verifiers.testing import check_verifier
from verifiers.toy import Hidden

PROMPT = Prefix(Segment((1,), "q"))
PREFIXES = [PROMPT, PROMPT + Segment((97,), "a", (0.0,)), PROMPT + Segment((98,), "b", (0.0,))]


class Broken(Hidden):
    """A toy verifier whose verdicts pass through `spoil`."""

    def __init__(self, spoil):
        super().__init__("ab")
        object.__setattr__(self, "spoil", spoil)

    async def score(self, prefixes):
        return self.spoil(prefixes, await super().score(prefixes))


DICE = random.Random(0)


@pytest.mark.parametrize(
    ("law", "spoil"),
    [
        ("empty_batch", lambda prefixes, verdicts: verdicts or [Verdict(0.5)]),
        ("keeps_the_contract", lambda prefixes, verdicts: verdicts[1:]),
        ("outside", lambda prefixes, verdicts: [replace(v, value=v.value + 0.5) for v in verdicts]),
        ("judges_alike", lambda prefixes, verdicts: [replace(v, value=DICE.random()) for v in verdicts]),
        ("batch_is_one_by_one", lambda prefixes, verdicts: sorted(verdicts, key=lambda v: v.value)),
        (
            "batch_is_one_by_one",
            lambda prefixes, verdicts: [replace(v, value=v.value / len(prefixes)) for v in verdicts],
        ),
    ],
)
async def test_a_verifier_that_breaks_a_law_is_caught(law, spoil):
    await check_verifier(Hidden("ab"), PREFIXES)
    with pytest.raises((AssertionError, VerifierError), match=law):
        await check_verifier(Broken(spoil), PREFIXES)
