"""The models that ship: small, the card says what was measured, and they do what they are for."""

import asyncio
import itertools
import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from experiments.problems import arithmetic
from experiments.train import traces
from experiments.train.calibrate import features, fit, shipped
from experiments.train.evaluate import auc, families, measure, table
from experiments.train.rows import SEPARATOR, encode
from experiments.train.tokenizer import ASSISTANT, END, build
from policies.embedded import Embedded
from search.types import Finish, Prefix, Segment
from verifiers.prm import PRM, Line
from verifiers.regret import Regret

MODELS = Path(__file__).parents[3] / "models"


def test_together_they_are_under_25_megabytes():
    assert sum(f.stat().st_size for f in MODELS.rglob("*") if f.is_file()) < 25_000_000


@pytest.mark.parametrize("name", ["policy", "prm", "draft"])
def test_they_share_the_tokenizer_of_the_trainer(name):
    shipped = PreTrainedTokenizerFast.from_pretrained(str(MODELS / name))
    for text in ("Compute (5+33)*12.", "34*6=204, 24+(204-18)", "13-9=4 (left: 4 4 10)\n\n\\boxed{(13-9)*(10-4)}"):
        assert shipped.encode(text) == build().encode(text)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", ["policy", "prm", "draft"])
def test_other_engines_load_the_same_tokenizer(name, trusted, monkeypatch, tmp_path):
    """By `AutoTokenizer`, as vLLM, SGLang and `transformers serve` do, with code of the folder or without."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    there = AutoTokenizer.from_pretrained(str(MODELS / name), trust_remote_code=trusted, local_files_only=True)
    assert type(there).__name__ == ("AsWritten" if trusted else "TokenizersBackend")
    chat = [{"role": "user", "content": "Compute (12+34)*567."}]
    assert there.apply_chat_template(chat, tokenize=False) == build().apply_chat_template(chat, tokenize=False)
    for text in ("<|user|>Compute (5+1204)*12.<|assistant|>", "13-9=4 (left: 4 4 10)\n\n", "e\u0301 \u6f22"):
        assert there.encode(text) == build().encode(text)
        assert there.decode(there.encode(text)) == text


def test_the_card_says_what_was_measured():
    figures = json.loads((MODELS / "figures.json").read_text())
    assert table(figures) in (MODELS / "README.md").read_text()
    for family in ("countdown", "arithmetic"):
        assert figures[family]["problems"] >= 500


def test_a_few_problems_measured_again_are_in_line_with_the_card():
    async def main():
        async with (
            Embedded(str(MODELS / "policy"), threads=1) as policy,
            PRM(str(MODELS / "prm"), threads=1) as prm,
            Regret(str(MODELS / "prm"), threads=1) as regret,
        ):
            return {name: await measure(f, policy, prm, regret, 8) for name, f in families(40).items()}

    for name, found in asyncio.run(main()).items():
        assert found["prm"]["within_problem"]["auc"] > 0.8, name
        assert found["prm"]["best_of"]["8"] > found["pass@1"] + 0.1, name
        assert 0.05 < found["greedy"] < 0.85, name


def test_auc_is_the_share_of_pairs_in_the_right_order():
    assert auc([0.9, 0.1, 0.5, 0.5], [True, False, True, False]) == 0.875
    assert auc([0.9, 0.1], [True, True]) is None


def test_the_fit_finds_the_weights_that_made_the_labels():
    torch.manual_seed(0)
    x = torch.cat((torch.randn(20_000, 2), torch.ones(20_000, 1)), 1)
    label = (torch.rand(20_000) < torch.sigmoid(x @ torch.tensor([1.2, 0.3, -0.4]))).long()
    assert fit(x, label) == pytest.approx([1.2, 0.3, -0.4], abs=0.08)


def test_what_is_fitted_on_is_what_the_verifier_reads():
    """The fit's features and the embedded verifier, which reads step by step, agree on every line."""
    model, rng = shipped(MODELS / "prm"), random.Random(5)
    rows = [traces.arithmetic_trace(next(arithmetic.training(rng)), rng, 0.2) for _ in range(8)]
    rows = sorted((row for row in rows if row.tokens[-1] == END), key=len)
    x, _, last = features(model, rows)
    words, at = build(), iter(zip(x.tolist(), last.tolist(), strict=True))

    async def main():
        async with PRM(str(MODELS / "prm"), threads=1) as prm:
            for row in rows:
                answer = row.tokens.index(ASSISTANT) + 1
                ends = [i + 1 for i, token in enumerate(row.tokens) if token in (END, *encode(SEPARATOR))]
                prefix = Prefix(Segment(tuple(row.tokens[:answer]), words.decode(row.tokens[:answer])))
                for begin, end in itertools.pairwise([answer, *ends]):
                    ids = row.tokens[begin:end]
                    ended = ids[-1] == END
                    text = words.decode(ids[:-1] if ended else ids)
                    prefix += Segment(tuple(ids), text, (), Finish.END if ended else Finish.STEP)
                    (logit, total, before, logprob, _), ends_here = next(at)
                    line = Line(logit, total - before, logprob)
                    (verdict,) = await prm.score([prefix])
                    assert ends_here == ended
                    assert verdict.value == pytest.approx(prm.calibration.probability(line, before, ended), abs=2e-3)

    asyncio.run(main())
    assert next(at, None) is None
