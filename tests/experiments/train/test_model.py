"""The lean model is `transformers`' Qwen2, and what is exported is what was trained."""

import torch
from transformers import Qwen2ForCausalLM, Qwen2Model

from experiments.train.export import config, export
from experiments.train.model import Model, Shape

SHAPE = Shape(hidden=64, layers=2, feed_forward=96, vocabulary=416)


def test_logits_equal_those_of_transformers():
    torch.manual_seed(0)
    model = Model(SHAPE)
    theirs = Qwen2ForCausalLM(config(model)).float()
    missing, unexpected = theirs.load_state_dict(model.state_dict(), strict=False)
    assert missing == ["lm_head.weight"] and not unexpected  # tied to the embeddings
    tokens = torch.randint(0, 416, (3, 17))
    with torch.no_grad():
        torch.testing.assert_close(model.logits(model.hidden(tokens)), theirs(tokens).logits, atol=1e-4, rtol=1e-4)


def test_branches_give_what_separate_rows_give():
    torch.manual_seed(0)
    model = Model(SHAPE)
    trunk, one, two = (torch.randint(0, 416, (n,)) for n in (5, 3, 4))
    row = torch.cat((trunk, one, two))[None]
    branch = torch.tensor([0] * 5 + [1] * 3 + [2] * 4)
    visible = torch.ones(12, 12).tril().bool() & ((branch[None] == 0) | (branch[None] == branch[:, None]))
    with torch.no_grad():
        together = model.hidden(row, visible.sum(-1)[None] - 1, visible[None, None])[0]
        torch.testing.assert_close(
            together[5:8], model.hidden(torch.cat((trunk, one))[None])[0, 5:], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            together[8:], model.hidden(torch.cat((trunk, two))[None])[0, 5:], atol=1e-5, rtol=1e-4
        )


def test_an_exported_verifier_has_the_layout_of_a_process_reward_model(tmp_path):
    torch.manual_seed(0)
    model = Model(Shape(64, 2, 96, 416, score_head=True))
    export(model, tmp_path)
    backbone = Qwen2Model.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = torch.randint(0, 416, (2, 9))
    with torch.no_grad():
        rounded = Model(model.shape)
        rounded.load_state_dict({n: p.bfloat16().float() for n, p in model.state_dict().items()})
        ours = rounded.hidden(tokens)
        torch.testing.assert_close(backbone(tokens).last_hidden_state, ours, atol=1e-4, rtol=1e-4)
    assert config(model).architectures == ["Qwen2ForProcessRewardModel"]
