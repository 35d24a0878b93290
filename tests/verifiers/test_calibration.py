"""The calibrated process reward model against a plain forward: head and regret weighed as the file says."""

import asyncio
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from policies.tiny import reward_model, tokenizer
from search.errors import ConfigError
from search.types import Finish, Prefix, Segment
from verifiers.prm import PRM, Calibration
from verifiers.testing import check_verifier

WORDS = tokenizer()
PROMPT = "<|user|>Make 24 from 1 2.<|assistant|>"
LINES = ("1+2=3\n\n", "3*8=24\n\n", "so 24")
WEIGHTS = {"score": 1.5, "regret": 0.25, "bias": -0.5}
ENDING = {"score": 0.5, "regret": 1.25, "logprob": 0.75, "bias": 2.0}


def segment(text, finish=Finish.STEP):
    ids = tuple(WORDS.encode(text, add_special_tokens=False))
    return Segment(ids + (WORDS.eos_token_id,) * (finish is Finish.END), text, (), finish)


def prefix(*steps):
    return Prefix(segment(PROMPT), steps, "Make 24 from 1 2.")


STEPS = (segment(LINES[0]), segment(LINES[1]), segment(LINES[2], Finish.END))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = reward_model(tmp_path_factory.mktemp("calibrated"), heads=4, shared=2, tied=True)
    (Path(path) / "calibration.json").write_text(json.dumps(WEIGHTS))
    return str(path)


def truth(folder, ids, marks, begin, ending=False):
    """Values at `marks`, by transformers and torch alone."""
    weights = load_file(Path(folder) / "model.safetensors")
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder)
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        inner = (hidden @ weights["score.0.weight"].T + weights["score.0.bias"]).relu()
        score = inner @ weights["score.2.weight"].T + weights["score.2.bias"]
        likely = (hidden @ model.get_input_embeddings().weight.T).log_softmax(-1)
    regret = [(likely[i - 1, ids[i]] - likely[i - 1].max()).item() for i in range(begin, len(ids))]
    values = []
    for mark in marks:
        logit = (score[mark, 1] - score[mark, 0]).item()
        x = 1.5 * logit + 0.25 * math.fsum(regret[: mark + 1 - begin]) - 0.5
        if ending and mark == marks[-1]:
            line = range(marks[-2] + 1, mark + 1)
            logprob = math.fsum(likely[i - 1, ids[i]].item() for i in line)
            x = 0.5 * logit + 1.25 * math.fsum(regret[: marks[-2] + 1 - begin]) + 0.75 * logprob + 2.0
        values.append(1 / (1 + math.exp(-x)))
    return values


def expected(folder):
    whole = prefix(*STEPS).tokens
    bounds = [len(prefix(*STEPS[:i]).tokens) for i in range(4)]
    return truth(folder, whole, [b - 1 for b in bounds[1:]], bounds[0])


def test_values_are_those_of_a_plain_forward(folder):
    async def main():
        async with PRM(folder) as prm:
            return await prm.score([prefix(*STEPS)])

    assert asyncio.run(main())[0].steps == pytest.approx(expected(folder), abs=1e-4)


@pytest.mark.parametrize("cut", [False, True], ids=["in steps", "in one piece"])
def test_a_line_that_ends_the_answer_has_weights_of_its_own(folder, tmp_path, cut):
    shutil.copytree(folder, tmp_path / "ending")
    (tmp_path / "ending" / "calibration.json").write_text(json.dumps(WEIGHTS | {"ending": ENDING}))
    steps = (segment("".join(LINES), Finish.END),) if cut else STEPS

    async def main():
        async with PRM(str(tmp_path / "ending")) as prm:
            return await prm.score([prefix(*steps), prefix(*STEPS[:2])])

    done, open_ = asyncio.run(main())
    whole = prefix(*STEPS).tokens
    marks = [len(prefix(*STEPS[:i]).tokens) - 1 for i in range(1, 4)]
    wanted = truth(folder, whole, marks, len(prefix().tokens), ending=True)
    assert done.value == pytest.approx(wanted[-1], abs=1e-4)
    assert open_.steps == pytest.approx(wanted[:2], abs=1e-4)


def test_step_by_step_is_all_at_once_and_reads_little_more_than_the_step(folder):
    async def main():
        async with PRM(folder) as prm:
            return [(await prm.score([prefix(*STEPS[:i])]))[0] for i in (1, 2, 3)]

    verdicts = asyncio.run(main())
    assert [v.value for v in verdicts] == pytest.approx(expected(folder), abs=1e-4)
    assert [v.cost.read for v in verdicts[1:]] == [len(step.tokens) + 1 for step in STEPS[1:]]


def test_lines_of_one_segment_add_up_their_regret(folder):
    whole = segment("".join(LINES), Finish.END)
    assert whole.tokens == sum((step.tokens for step in STEPS), ())

    async def main():
        async with PRM(folder, within="min") as prm:
            return await prm.score([prefix(whole)])

    assert asyncio.run(main())[0].value == pytest.approx(min(expected(folder)), abs=1e-4)


def test_a_cut_without_ids_adds_nothing(folder):
    cut = Segment((), "", (), Finish.LENGTH)

    async def main():
        async with PRM(folder) as prm:
            return await prm.score([prefix(STEPS[0]), prefix(STEPS[0], cut)])

    one, two = asyncio.run(main())
    assert two.steps == pytest.approx((one.value, one.value), abs=1e-4)


def test_the_laws_that_ship_with_the_port(folder):
    async def main():
        async with PRM(folder) as prm:
            await check_verifier(prm, [prefix(*STEPS[:i]) for i in (1, 2, 3)])

    asyncio.run(main())


def test_the_calibration_is_part_of_the_fingerprint(folder, tmp_path):
    plain = str(reward_model(tmp_path, heads=4, shared=2, tied=True))
    assert PRM(plain).fingerprint != PRM(folder).fingerprint
    assert PRM(plain).calibration == Calibration()


@pytest.mark.parametrize("text", ["[1, 2]", '{"score": "much"}', '{"weight": 1}', "nonsense"])
def test_a_file_that_is_no_calibration_is_an_error(tmp_path, text):
    folder = reward_model(tmp_path, heads=4, shared=2, tied=True)
    (Path(folder) / "calibration.json").write_text(text)

    async def main():
        async with PRM(str(folder)):
            pass

    with pytest.raises(ConfigError, match=r"calibration\.json"):
        asyncio.run(main())


def test_regret_needs_tied_embeddings(tmp_path):
    folder = reward_model(tmp_path, heads=4, shared=2, tied=False)
    (Path(folder) / "calibration.json").write_text(json.dumps(WEIGHTS))

    async def main():
        async with PRM(str(folder)):
            pass

    with pytest.raises(ConfigError, match="tied"):
        asyncio.run(main())
