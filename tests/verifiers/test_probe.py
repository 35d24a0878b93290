"""Probes: what is read from a file, what is predicted, and hidden states against a plain forward."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from policies.tiny import checkpoint, tokenizer
from search import allocate
from search.errors import ConfigError, VerifierError
from search.types import Cost, Prefix, Segment, Verdict
from verifiers.probe import Fitted, Probe, price, text_features
from verifiers.prospect import Prospect, States
from verifiers.testing import check_verifier

SIZE = len(text_features(""))
WORDS = tokenizer()


def record(**fields):
    whole = {
        "version": 1,
        "features": "text",
        "model": None,
        "centre": [0.5] * SIZE,
        "scale": [2.0] * SIZE,
        "low": [0.0] * SIZE,
        "high": [9.0] * SIZE,
        "weights": [0.1] * SIZE,
        "bias": -1.0,
        "predictions": [0.05, 0.2, 0.2, 0.6, 0.9],
    }
    return {**whole, **fields}


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "probe.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def question(text):
    ids = tuple(WORDS.encode(text, add_special_tokens=False))
    return Prefix(Segment(ids, text), (), text)


def test_a_prediction_by_hand(file):
    probe = Probe(file(record()))
    features = text_features("Compute 12*3.")
    x = -1.0 + sum(0.1 * (f - 0.5) / 2 for f in features)
    assert probe(question("Compute 12*3.")) == pytest.approx(1 / (1 + math.exp(-x)))
    assert probe(question("Compute 12*3.")) != probe(question("Compute 12*345."))
    assert probe == Probe(probe.file)


def test_nothing_is_extrapolated(file):
    fitted = Fitted.read(file(record(low=[0.5] * SIZE, high=[1.5] * SIZE)))
    wild = Fitted.read(file(record(weights=[9.0] * SIZE)))
    assert (wild.success([9.0] * SIZE), wild.success([0.0] * SIZE)) == (0.9, 0.05)
    assert fitted.success([99.0] * SIZE) == fitted.success([1.5] * SIZE) > fitted.success([1.4] * SIZE)
    assert fitted.success([-99.0] * SIZE) == pytest.approx(1 / (1 + math.e))


def test_features_count():
    characters, words, digits, numbers, largest, smallest, *signs, total = map(math.expm1, text_features("12*3 (5)?"))
    assert [round(x) for x in (characters, words, digits, numbers, largest, smallest)] == [9, 2, 4, 3, 12, 3]
    assert [round(x) for x in signs] == [0, 0, 1, 0, 0, 0, 1, 1, 0, 0]
    assert total == pytest.approx(13 * 4 * 6 - 1)
    assert all(math.isfinite(x) for x in text_features("9" * 400))


def test_a_price_is_that_of_the_predictions(file):
    path = file(record())
    rows = [allocate.binary(p, 16) for p in record()["predictions"]]
    assert price(path, 3, 1, 16) == allocate.price(rows, 15, 1)
    draws = [allocate.worth(row, price(path, 3, 1, 16), 1) for row in rows]
    assert min(draws) >= 1 and sum(draws) <= 15
    assert price(path, 6, 1, 16) < price(path, 2, 1, 16)
    for average in (0.5, 17):
        with pytest.raises(ConfigError, match="average"):
            price(path, average, 1, 16)


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        record(version=2),
        record(features="smell"),
        record(weights=[1.0]),
        record(bias=None),
        record(features="state"),
        record(predictions=[]),
        {"version": 1},
    ],
    ids=str,
)
def test_a_file_that_is_no_probe_is_one_clear_error(file, content):
    with pytest.raises(ConfigError, match="probe.json") as caught:
        Probe(file(content))
    assert caught.value.field == "file" and "\n" not in str(caught.value)


def test_a_missing_file_is_one_clear_error(tmp_path):
    for call in (Probe, lambda file: price(file, 2, 1, 4)):
        with pytest.raises(ConfigError, match=r"experiments\.probe"):
            call(str(tmp_path / "none.json"))


@dataclass(frozen=True)
class Half:
    """Says 0.5 of what has steps."""

    fingerprint = "half"

    async def score(self, prefixes):
        assert all(prefix.steps for prefix in prefixes)
        return [Verdict(0.5) for _ in prefixes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("policy"), scale=0.25))


async def test_states_are_those_of_a_plain_forward(folder):
    model = AutoModel.from_pretrained(folder).eval()
    async with States(folder, threads=1) as states:
        for text in ("Make 24 from 1 2.", "?"):
            ids = question(text).prompt.tokens
            with torch.inference_mode():
                expected = model(torch.tensor([ids])).last_hidden_state[0, -1]
            found, cost = await states.of(ids)
            assert found == pytest.approx(expected.tolist(), abs=1e-4)
            assert cost.passes == 1 and cost.read == len(ids)
        with pytest.raises(VerifierError):
            await states.of(())
    with pytest.raises(VerifierError, match="not loaded"):
        await states.of((5,))


def state_probe(folder, **fields):
    size = 64
    model = States(folder).fingerprint
    blank = {
        "features": "state",
        "model": model,
        "centre": [0.0] * size,
        "scale": [1.0] * size,
        "low": [-9.0] * size,
        "high": [9.0] * size,
    }
    return record(**{**blank, "weights": [0.1] * size, **fields})


async def test_a_prospect_judges_bare_prompts_and_leaves_the_rest(folder, file):
    prospect = Prospect(Half(), States(folder, threads=1), file(state_probe(folder)))
    bare = [question("Make 24 from 1 2."), question("Why?")]
    begun = bare[0] + Segment((5,), "x")
    async with prospect:
        verifier = prospect.bind(None)
        first, half, second = await verifier.score([bare[0], begun, bare[1]])
        assert half == Verdict(0.5) and first.value != second.value
        for prefix, verdict in zip(bare, (first, second), strict=True):
            state, _ = await prospect.states.of(prefix.prompt.tokens)
            assert verdict.value == pytest.approx(prospect.fitted.success(state))
        await check_verifier(verifier, [*bare, begun])
        assert verifier.fingerprint == prospect.fingerprint
        assert await verifier.score([begun]) == [Verdict(0.5, (), Cost(passes=1))]


async def test_a_probe_of_another_model_is_refused(folder, file):
    for content in (state_probe(folder, model="states:other"), record()):
        with pytest.raises(ConfigError, match="file"):
            async with Prospect(Half(), States(folder), file(content)):
                pass


def test_the_probes_that_ship_are_calibrated():
    for name, least in (("probe", 0.2), ("probe_state", 0.1)):
        path = f"models/{name}.json"
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        assert content["calibration"]["gap"] < 0.06 and content["calibration"]["explained"] > least
        assert Fitted.read(path).model in (None, States("models/policy").fingerprint)
        prices = content["prices"]["average"]
        assert prices["8"] == pytest.approx(price(path, 8, 1, 64)) and prices["4"] > prices["16"]
