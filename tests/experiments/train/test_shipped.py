"""The models that ship: small, the card says what was measured, and they do what they are for."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from experiments.train.calibrate import fit
from experiments.train.evaluate import auc, families, measure, table
from experiments.train.tokenizer import build
from policies.embedded import Embedded
from verifiers.prm import PRM
from verifiers.regret import Regret

MODELS = Path(__file__).parents[3] / "models"


def test_together_they_are_under_25_megabytes():
    assert sum(f.stat().st_size for f in MODELS.rglob("*") if f.is_file()) < 25_000_000


@pytest.mark.parametrize("name", ["policy", "prm", "draft"])
def test_they_share_the_tokenizer_of_the_trainer(name):
    shipped = PreTrainedTokenizerFast.from_pretrained(str(MODELS / name))
    for text in ("Compute (5+33)*12.", "34*6=204, 24+(204-18)", "13-9=4 (left: 4 4 10)\n\n\\boxed{(13-9)*(10-4)}"):
        assert shipped.encode(text) == build().encode(text)


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
    found = fit(x, label)
    assert (found.score, found.regret, found.bias) == pytest.approx((1.2, 0.3, -0.4), abs=0.08)
