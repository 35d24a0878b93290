"""The contrastive reward against plain forwards of both models."""

import asyncio
import math
import statistics

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from transformers import AutoModelForCausalLM

import verifiers.contrast
from policies.tiny import checkpoint, tokenizer
from search.errors import ConfigError, VerifierError
from search.types import Finish, Prefix, Segment
from verifiers.contrast import Contrast, jensen_shannon
from verifiers.testing import check_verifier

WORDS = tokenizer()
PROMPT = "<|user|>Compute 1+2.<|assistant|>"


def step(text, finish=Finish.STEP):
    tokens = tuple(WORDS.encode(text, add_special_tokens=False))
    return Segment(tokens + (WORDS.eos_token_id,) * (finish is Finish.END), text, (), finish)


STEPS = (step("1+2\n\n"), step("=3.\n\n"), step("3", Finish.END))
PREFIX = Prefix(Segment(tuple(WORDS.encode(PROMPT, add_special_tokens=False)), PROMPT), STEPS, "Compute 1+2.")
BEGINNINGS = [Prefix(PREFIX.prompt, STEPS[:i], PREFIX.question) for i in range(4)]


@pytest.fixture(scope="module")
def expert(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("expert"), hidden=32, heads=1, scale=0.3))


@pytest.fixture(scope="module")
def amateur(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("amateur"), hidden=16, heads=1, layers=1, scale=0.3, seed=1))


def distributions(folder):
    """At each position of the whole prefix, the probabilities of the next token."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        return model(torch.tensor([PREFIX.tokens])).logits[0].double().softmax(-1).numpy()


def plain(expert, amateur):
    """Mean log-probability and mean divergence of each step, by scipy."""
    strong, weak = distributions(expert), distributions(amateur)
    terms, at = [], len(PREFIX.prompt.tokens)
    for one in STEPS:
        places = range(at, at + len(one.tokens))
        likelihood = statistics.fmean(math.log(strong[i - 1, PREFIX.tokens[i]]) for i in places)
        divergence = statistics.fmean(jensenshannon(strong[i - 1], weak[i - 1]) ** 2 for i in places)
        terms.append((likelihood, divergence))
        at += len(one.tokens)
    return terms


def score(verifier, prefixes=(PREFIX,)):
    async def main():
        async with verifier:
            return [(await verifier.score([prefix]))[0] for prefix in prefixes]

    return asyncio.run(main())


def equals_the_plain_reward(expert, amateur):
    settings = {"likelihood": (-4.0, 2.0), "divergence": (0.3, 0.1), "weights": (0.5, 2.0)}
    growing = score(Contrast(expert, amateur=amateur, **settings), BEGINNINGS)
    rewards = [1 / (1 + math.exp(-(0.5 * (ll + 4) / 2 + 2 * (js - 0.3) / 0.1))) for ll, js in plain(expert, amateur)]
    for count, verdict in enumerate(growing):
        assert verdict.steps == pytest.approx(rewards[:count], rel=1e-3)
        assert verdict.value == pytest.approx(statistics.fmean(rewards[:count]) if count else 1.0, rel=1e-3)


def test_reward_is_that_of_a_plain_forward(expert, amateur):
    divergences = [js for _, js in plain(expert, amateur)]
    assert min(divergences) > 0.05, "otherwise nothing is tested"
    equals_the_plain_reward(expert, amateur)


def reversed_kl(a, b):
    """Broken: the divergences from the mixture, which have no bound."""
    p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    m = torch.logaddexp(p, q) - math.log(2)
    return ((m.exp() * (m - p)).sum(-1) + (m.exp() * (m - q)).sum(-1)) / 2


def test_another_divergence_is_caught(expert, amateur, monkeypatch):
    monkeypatch.setattr(verifiers.contrast, "jensen_shannon", reversed_kl)
    with pytest.raises(AssertionError):
        equals_the_plain_reward(expert, amateur)


def test_divergence_is_bounded_symmetric_and_zero_of_equals():
    rng = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 30.0, 1e4):
        a, b = (scale * torch.randn(50, 40, generator=rng) for _ in range(2))
        found = jensen_shannon(a, b)
        assert (found >= 0).all() and (found <= math.log(2)).all()
        assert torch.allclose(found, jensen_shannon(b, a))
        assert np.allclose(
            found, jensenshannon(a.double().softmax(-1), b.double().softmax(-1), axis=-1) ** 2, atol=1e-9
        )
        assert jensen_shannon(a, a).max() < 1e-12  # 0 to rounding
    apart = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert jensen_shannon(apart[:1], apart[1:]).item() == pytest.approx(math.log(2))


def test_an_expert_that_is_its_own_amateur_leaves_the_likelihood_alone(expert):
    (with_contrast,) = score(Contrast(expert, amateur=expert))
    (without,) = score(Contrast(expert, amateur=expert, weights=(1.0, 0.0)))
    assert with_contrast.steps == pytest.approx(without.steps, abs=1e-12)


def test_only_the_new_step_is_read_and_by_both(expert, amateur):
    costs = [verdict.cost for verdict in score(Contrast(expert, amateur=amateur), (*BEGINNINGS, PREFIX))]
    sizes = [len(prefix.tokens) for prefix in BEGINNINGS]
    assert [cost.read for cost in costs] == [0, 2 * sizes[1], 2 * (sizes[2] - sizes[1] + 1), *[costs[3].read], 0]
    assert costs[3].read <= 2 * (sizes[3] - sizes[2] + 1)
    assert [cost.passes for cost in costs] == [1] * 5


def test_fitted_statistics_are_those_of_the_texts(expert, amateur):
    async def main():
        async with Contrast(expert, amateur=amateur) as contrast:
            with pytest.raises(VerifierError, match="at least 2"):
                await contrast.fitted(BEGINNINGS[:2])
            return await contrast.fitted([PREFIX])

    fitted = asyncio.run(main())
    terms = plain(expert, amateur)
    for i, (mean, deviation) in enumerate((fitted.likelihood, fitted.divergence)):
        assert mean == pytest.approx(statistics.fmean(term[i] for term in terms), rel=1e-3)
        assert deviation == pytest.approx(statistics.pstdev(term[i] for term in terms), rel=1e-2)
    assert fitted.fingerprint != Contrast(expert, amateur=amateur).fingerprint


def test_laws(expert, amateur):
    async def main():
        async with Contrast(expert, amateur=amateur, how="min") as contrast:
            await check_verifier(contrast, BEGINNINGS)

    asyncio.run(main())


def test_models_of_two_vocabularies_are_refused(expert, amateur, tmp_path):
    other = checkpoint(tmp_path / "other", hidden=16, heads=1, layers=1)
    path = other / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"<|user|>"', '"<|person|>"'), encoding="utf-8")
    contrast = Contrast(expert, amateur=str(other))
    with pytest.raises(ConfigError, match="vocabulary"):
        score(contrast)
    assert contrast.fingerprint != Contrast(expert, amateur=amateur).fingerprint


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amateur": ""}, "amateur"),
        ({"likelihood": (0.0, 0.0)}, "likelihood"),
        ({"divergence": (0.0, math.nan)}, "divergence"),
        ({"divergence": (0.0,)}, "divergence"),
        ({"weights": (1.0, math.inf)}, "weights"),
        ({"how": "median"}, "how"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, field):
    with pytest.raises(ConfigError) as caught:
        Contrast("expert", **({"amateur": "amateur"} | fields))
    assert caught.value.field == field
