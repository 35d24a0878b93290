"""Reward models in vLLM's engine: the scores of the same models in the embedded one, each token read once."""

from __future__ import annotations

import pytest

from policies.tiny import add_head, checkpoint, reward_model, tokenizer
from search.steps import Delimiter
from search.types import Finish, Prefix, Request, Sampling, Segment
from verifiers import prm, specified, vllm
from verifiers.form import Answer, Chat, Plain
from verifiers.readout import Classes, Labels, Value
from verifiers.testing import READING, check_verifier

pytestmark = pytest.mark.vllm

WORDS = tokenizer(("<extra_0>",))
SHAPE = {"hidden": 64, "heads": 2, "context": 256, "words": WORDS}
SOLUTION = ("1+2=3 is what comes first.", "3*8=24 follows from it, and so it does.", "so 24 is what was asked for")


def step(text, finish=Finish.STEP):
    return Segment(tuple(WORDS.encode(text, add_special_tokens=False)), text, (), finish)


def grown():
    """Beginnings of two solutions that share their first step."""
    question = "Make 24 from 1 2 8, by any of the four operations you like."
    prompt = Prefix(Segment(tuple(WORDS.encode(question)), question), (), question)
    first = prompt + step(SOLUTION[0] + "\n\n")
    second = first + step(SOLUTION[1] + "\n\n")
    other = first + step("8-3=5 leads nowhere at all.\n\n")
    return [first, second, other, second + step(SOLUTION[2], Finish.END)]


def values(verdicts):
    return [(verdict.value, *verdict.steps) for verdict in verdicts]


@pytest.fixture
def trajectories(loop, policy, prompts):
    found = []
    for prompt in prompts:
        level = [prompt]
        for seed in range(4):
            sampling = Sampling(1.0, until=Delimiter(("\n\n",)), max_tokens=64)
            replies = loop(policy.sample([Request(each, sampling, (seed, seed + 10)) for each in level]))
            grown = [p + s for p, reply in zip(level, replies, strict=True) for s in dict.fromkeys(reply.segments)]
            found += grown
            level = [each for each in grown if each.steps[-1].finish is Finish.STEP][:4]
    return found


def test_the_shipped_model_scores_as_embedded_and_reads_each_token_once(loop, prm, plain_prm, trajectories):
    wanted = values(loop(plain_prm.score(trajectories)))
    prm._forget()
    for one_by_one in (True, False):
        if one_by_one:
            found = [loop(prm.score([each]))[0] for each in trajectories]
        else:
            prm._forget()
            found = loop(prm.score(trajectories))
        for one, other in zip(values(found), wanted, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
    read = sum(verdict.cost.read + verdict.cost.reused for verdict in found)
    assert read == sum(len(each.tokens) + (each.steps[-1].tokens[-1:] == ()) for each in trajectories)
    assert sum(verdict.cost.reused for verdict in found) > 0


def test_the_laws_that_ship_with_the_port(loop, prm, trajectories):
    loop(check_verifier(prm, trajectories[:9]))
    for law in READING:
        loop(law(prm, trajectories))


FAMILIES = {
    "labels": (Plain(separator="\n", begin=False, apart=True), Labels(("+",), ("-",))),
    "classes": (Chat(separator="<extra_0>"), Classes()),
    "value": (Answer("{question} {answer}"), Value("v_head.summary")),
    "trajectory": (Answer("{question} {answer}"), Value("reward_head", squash="symmetric")),
}


def folder(path, family):
    """A random model of the family, as its folder comes."""
    if family == "classes":
        return str(reward_model(path, "two layers", **SHAPE))
    checkpoint(path, **SHAPE)
    if family == "value":
        add_head(path, "v_head.summary", 1, "Qwen2ForCausalLM")
    if family == "trajectory":
        add_head(path, "reward_head", 1, "Qwen2ForCausalLM", layers=2)
    return str(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_described_families_score_as_embedded(family, loop, tmp_path, small):
    form, readout = FAMILIES[family]
    model = folder(tmp_path, family)
    plain = specified.Specified(model=model, form=form, readout=readout, threads=1)
    with loop.inside(plain):
        wanted = values(loop(plain.score(grown())))
    with loop.inside(vllm.Specified(model=model, form=form, readout=readout, **small)) as ours:
        found = loop(ours.score(grown()))
        for one, other in zip(values(found), wanted, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
        ours._forget()
        again = [loop(ours.score([each]))[0] for each in grown()]
        assert values(again) == [pytest.approx(other, abs=1e-4) for other in wanted]
        assert sum(verdict.cost.reused for verdict in again) > sum(verdict.cost.read for verdict in again)


def test_a_model_without_calibration_is_read_by_vllms_own_head(loop, tmp_path, small):
    model = str(reward_model(tmp_path, "one layer", **SHAPE))
    with loop.inside(prm.PRM(model, threads=1)) as plain:
        wanted = values(loop(plain.score(grown())))
    with loop.inside(vllm.PRM(model, **small)) as ours:
        for one, other in zip(values(loop(ours.score(grown()))), wanted, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
