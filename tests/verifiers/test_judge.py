"""A judge against a policy of known distribution, and against a plain forward of a real checkpoint."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.embedded import Embedded
from policies.tiny import checkpoint, tokenizer
from policies.toy import END, Toy
from search.errors import ConfigError, VerifierError
from search.types import Finish, Prefix, Segment
from verifiers.judge import Judge
from verifiers.testing import check_verifier

CHAIN = {
    "": {"Y": 0.5, "N": 0.3, "M": 0.2},
    "Y": {"Y": 0.2, "N": 0.1, ".": 0.7},
    "N": {"N": 0.4, ".": 0.6},
    "M": {".": 1.0},
}
WORDS = Toy("YNM", length=2, chain=CHAIN)


@dataclass(frozen=True)
class Sure(Toy):
    """The toy language, which also says how likely a text is."""

    async def logprobs(self, prefixes, continuations):
        return [self._of("".join(map(chr, continuation.tokens))) for continuation in continuations]

    def _of(self, word):
        rows = (self.distribution(word[:i]).get(letter, 0.0) for i, letter in enumerate(word))
        return tuple(math.log(p) if p else -math.inf for p in rows)


@dataclass(frozen=True)
class Entered(Sure):
    """Notes when it is entered and left, and every prompt it is asked for."""

    said: list = field(default_factory=list)

    async def __aenter__(self):
        self.said.append("in")
        return self

    async def __aexit__(self, *error):
        self.said.append("out")

    def prompt(self, messages):
        self.said.extend(messages)
        return super().prompt(messages)


SURE = Sure("YNM", length=2, chain=CHAIN)


def answer(text, *, finish=Finish.STEP, question="2+2?"):
    segment = Segment(tuple(map(ord, text)), text, (), finish)
    return Prefix(Segment((1,), "prompt"), (segment,), question)


PREFIXES = [answer("4", finish=Finish.END), answer("2+2=5\n\n"), answer("{question}{answer}")]


async def value(judge, prefix=PREFIXES[0]):
    return (await judge.score([prefix]))[0].value


@pytest.mark.parametrize(
    ("right", "wrong", "exact"),
    [("Y", "N", 0.5 / 0.8), ("N", "Y", 0.3 / 0.8), ("YN", "Y", 0.05 / 0.55), ("Y", "Q", 1.0), ("Q", "Y", 0.0)],
)
async def test_the_probability_of_the_verdict_is_exact(right, wrong, exact):
    assert await value(Judge(SURE, right=right, wrong=wrong)) == pytest.approx(exact, abs=1e-12)


async def test_one_that_is_never_said_is_an_error():
    with pytest.raises(VerifierError, match="neither"):
        await value(Judge(SURE, right="Q", wrong="R"))


async def test_votes_come_near_the_share_of_whole_verdicts():
    """P(Y then the end) = 0.35, N alone 0.18: of the votes that can be read, 35 in 53 are right."""
    share, n = 0.35 / (0.35 + 0.18), 4000
    judge = Judge(WORDS, right="Y", wrong="N", n=n, unparsable="abstain")
    deviation = (share * (1 - share) / (n * 0.53)) ** 0.5
    found = [await value(judge, prefix) for prefix in PREFIXES]
    assert all(abs(x - share) < 3.3 * deviation for x in found)
    assert len(set(found)) == 3  # every prefix has votes of its own
    assert found == [await value(judge, prefix) for prefix in PREFIXES]  # and always the same


async def test_log_probabilities_are_used_where_there_are_some():
    assert await value(Judge(SURE, right="Y", wrong="N")) == pytest.approx(0.625)
    voted = Judge(SURE, right="Y", wrong="N", how="votes", n=3, unparsable="abstain")
    assert await value(voted) in (0, 1 / 3, 1 / 2, 2 / 3, 1)
    async with Judge(SURE, right="Y", wrong="N", how="probability"):
        pass
    with pytest.raises(ConfigError, match="how"):
        async with Judge(WORDS, how="probability"):
            pass


@pytest.mark.parametrize(
    ("text", "finish", "vote"),
    [
        ("Yes", Finish.END, True),
        (" No.\n", Finish.END, False),
        ("yes", Finish.END, None),
        ("Yes and No", Finish.END, None),
        ("Maybe", Finish.END, None),
        ("", Finish.EMPTY, None),
        ("Yes", Finish.LENGTH, None),
    ],
)
def test_verdicts_are_read_strictly(text, finish, vote):
    assert Judge(WORDS, unparsable="abstain")._read(text, finish) is vote
    if vote is None:
        with pytest.raises(VerifierError, match="is no verdict"):
            Judge(WORDS)._read(text, finish)


def test_a_verdict_may_follow_reasoning():
    judge = Judge(WORDS, verdict=r"Verdict: (\w+)", unparsable="abstain")
    assert judge._read("It adds up. Verdict: Yes", Finish.END) is True
    assert judge._read("Verdict: Yes, so Verdict: Yes", Finish.END) is True
    assert judge._read("Verdict: Yes, or rather Verdict: No", Finish.END) is None


async def test_unparsable_votes_raise_or_abstain():
    silent = Toy("M", length=1)
    with pytest.raises(VerifierError, match="'M' is no verdict"):
        await value(Judge(silent, n=2))
    assert await value(Judge(silent, n=2, unparsable="abstain", undecided=0.25)) == 0.25


async def test_it_is_asked_about_question_and_reply_alone():
    policy = Entered("YNM", length=2, chain=CHAIN)
    turns = (Segment((1,), "first", (), Finish.END), Segment((2,), "again", by="user"), Segment((3,), "{question}"))
    async with Judge(policy, "Q: {question} A: {answer}", right="Y", wrong="N") as judge:
        (verdict,) = await judge.score([Prefix(Segment((0,), "prompt"), turns, "why {answer}?")])
    assert policy.said == ["in", {"role": "user", "content": "Q: why {answer}? A: {question}"}, "out"]
    assert verdict.steps == () and verdict.cost.passes == 1
    assert verdict.cost.read == len("Q: why {answer}? A: {question}") + 2 and verdict.cost.generated == 0


@pytest.mark.parametrize(
    "judge",
    [
        Judge(SURE, right="Y", wrong="N"),
        Judge(WORDS, right="Y", wrong="N", n=3, unparsable="abstain"),
    ],
    ids=["probability", "votes"],
)
async def test_laws(judge):
    await check_verifier(judge, PREFIXES)


async def test_votes_cost_a_pass_each():
    (verdict,) = await Judge(WORDS, right="Y", wrong="N", n=7, unparsable="abstain").score(PREFIXES[:1])
    assert (verdict.cost.passes, verdict.cost.generated, verdict.cost.policy_calls) == (7, 0, 0)
    assert verdict.cost.read > 7


def test_the_probability_of_a_checkpoint_is_that_of_a_plain_forward(tmp_path):
    folder = checkpoint(tmp_path / "model", scale=0.1)
    words, prefixes = tokenizer(), [answer("4"), answer("5 no", question="3+3?")]

    async def judged():
        async with Judge(Embedded(str(folder), threads=1), "{question} {answer}?", right="Yes", wrong="Not") as judge:
            return [verdict.value for verdict in await judge.score(prefixes)]

    model, expected = AutoModelForCausalLM.from_pretrained(folder).eval(), []
    for prefix in prefixes:
        asked = [{"role": "user", "content": f"{prefix.question} {prefix.text}?"}]
        text = words.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        p = []
        for verdict in ("Yes", "Not"):
            before = words.encode(text, add_special_tokens=False)
            after = words.encode(verdict, add_special_tokens=False)
            with torch.inference_mode():
                rows = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
            p.append(math.exp(sum(rows[len(before) - 1 + i, t] for i, t in enumerate(after))))
        expected.append(p[0] / sum(p))
    assert asyncio.run(judged()) == pytest.approx(expected, abs=1e-4)
    assert len({round(x, 3) for x in expected}) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"template": "{answer}"},
        {"right": "No"},
        {"right": ""},
        {"how": "guess"},
        {"n": 0},
        {"unparsable": "ignore"},
        {"undecided": 2.0},
        {"verdict": "("},
        {"verdict": "x"},
        {"temperature": -1.0},
        {"max_tokens": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(fields):
    with pytest.raises(ConfigError) as caught:
        Judge(WORDS, **fields)
    assert caught.value.field in fields


async def test_a_policy_without_a_template_is_refused():
    class Mute:
        async def sample(self, requests):
            return []

    with pytest.raises(ConfigError, match="chat template"):
        async with Judge(Mute()):
            pass
    assert END not in Judge(WORDS).fingerprint.split(":")[0]
