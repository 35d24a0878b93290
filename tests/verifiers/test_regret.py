"""Regret under a language model against the same sum computed plainly."""

import asyncio
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.tiny import reward_model, tokenizer
from search.contract import checked_verdict
from search.errors import ConfigError
from search.types import Finish, Prefix, Segment
from verifiers.combine import Aggregate
from verifiers.regret import Regret

WORDS = tokenizer()
PROMPT = "<|user|>Compute 1+2.<|assistant|>"


def step(text, finish=Finish.STEP):
    tokens = tuple(WORDS.encode(text, add_special_tokens=False))
    return Segment(tokens + (WORDS.eos_token_id,) * (finish is Finish.END), text, (), finish)


STEPS = (step("1+2\n\n"), step("=3.\n\n"), step("3", Finish.END))
PREFIX = Prefix(Segment(tuple(WORDS.encode(PROMPT, add_special_tokens=False)), PROMPT), STEPS, "Compute 1+2.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # the folder of a PRM serves as a language model too: its head is not used
    return str(reward_model(tmp_path_factory.mktemp("judge"), hidden=32, heads=1, scale=0.1))


def plain(folder, prefix):
    """Summed regret of each step."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        logs = model(torch.tensor([prefix.tokens])).logits[0].log_softmax(-1)
    sums, at = [], len(prefix.prompt.tokens)
    for one in prefix.steps:
        places = range(at, at + len(one.tokens))
        sums.append(math.fsum(float(logs[i - 1, prefix.tokens[i]] - logs[i - 1].max()) for i in places))
        at += len(one.tokens)
    return sums


def beginnings():
    return [Prefix(PREFIX.prompt, STEPS[:i], PREFIX.question) for i in range(4)]


@pytest.mark.filterwarnings("default")
def test_value_is_the_exponential_of_the_scaled_regret(folder):
    async def main():
        async with Regret(folder, scale=0.25) as regret:
            one_by_one = [(await regret.score([prefix]))[0] for prefix in beginnings()]
        async with Regret(folder, scale=0.25) as regret:
            return one_by_one, await regret.score(beginnings()[::-1])

    growing, together = asyncio.run(main())
    sums = plain(folder, PREFIX)
    assert min(sums) < -1, "otherwise nothing is tested"
    for count, (a, b) in enumerate(zip(growing, together[::-1], strict=True)):
        checked_verdict(beginnings()[count], a)
        assert a.value == pytest.approx(math.exp(0.25 * sum(sums[:count])), rel=1e-3)
        assert a.steps == pytest.approx([math.exp(0.25 * x) for x in sums[:count]], rel=1e-3)
        assert b.steps == pytest.approx(a.steps, rel=1e-3)
    assert [v.value for v in growing] == sorted((v.value for v in growing), reverse=True)


def test_only_the_new_step_is_read(folder):
    async def main():
        async with Regret(folder) as regret:
            return [(await regret.score([prefix]))[0].cost for prefix in (*beginnings(), PREFIX)]

    costs = asyncio.run(main())
    sizes = [len(prefix.tokens) for prefix in beginnings()]
    # the last id of what is read is an input only when something follows it
    assert [cost.read for cost in costs] == [0, sizes[1] - 1, sizes[2] - sizes[1], sizes[3] - sizes[2], 0]
    assert [cost.reused for cost in costs] == [0, 0, sizes[1] - 1, sizes[2] - 1, 0]


def test_the_product_of_its_steps_is_its_value(folder):
    async def main():
        async with Aggregate(Regret(folder), "prod") as whole, Regret(folder) as regret:
            return (await whole.score([PREFIX]))[0], (await regret.score([PREFIX]))[0]

    product, value = asyncio.run(main())
    assert product.value == pytest.approx(value.value, rel=1e-6)


def test_scale_is_checked(folder):
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="scale"):
            Regret(folder, scale=wrong)
    assert Regret(folder).fingerprint != Regret(folder, scale=0.4).fingerprint
