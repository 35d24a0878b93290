"""The embedded process reward model against a plain forward of the same weights, and what it reads."""

import asyncio
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from policies.tiny import checkpoint, reward_model, tokenizer
from search.contract import checked_verdict
from search.errors import ConfigError, VerifierError
from search.types import Finish, Prefix, Segment, Verdict
from verifiers.combine import Aggregate
from verifiers.prm import PRM
from verifiers.regret import Regret
from verifiers.testing import check_verifier

WORDS = tokenizer()
END = WORDS.eos_token_id
QUESTION = "Make 24 from 1 2."
PROMPT = f"<|user|>{QUESTION}<|assistant|>"


def ids_of(text):
    return tuple(WORDS.encode(text, add_special_tokens=False))


def step(text, finish=Finish.STEP):
    ended = finish in (Finish.END, Finish.EMPTY)
    return Segment(ids_of(text) + (END,) * ended, text, (), finish)


def prefix(*steps, prompt=PROMPT):
    return Prefix(Segment(ids_of(prompt), prompt), steps, QUESTION)


SOLUTION = (step("1+2=3\n\n"), step("3*8=24\n\n"), step("so 24", Finish.END))


@pytest.fixture(scope="module", params=["two layers", "one layer"])
def folder(request, tmp_path_factory):
    return str(reward_model(tmp_path_factory.mktemp("prm"), request.param, heads=4, shared=2))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return str(reward_model(tmp_path_factory.mktemp("plain"), hidden=32, heads=1))


def truth(folder, ids):
    """P(label 1) at each position, by transformers and torch alone."""
    weights = load_file(Path(folder) / "model.safetensors")
    head = {name: weights[name] for name in weights if name.startswith("score")}
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]
        if "score.weight" in head:
            scores = hidden @ head["score.weight"].T + head["score.bias"]
        else:
            inner = (hidden @ head["score.0.weight"].T + head["score.0.bias"]).relu()
            scores = inner @ head["score.2.weight"].T + head["score.2.bias"]
    return scores.softmax(-1)[:, 1].tolist()


def scores(verifier, *prefixes):
    async def main():
        async with verifier:
            return await verifier.score(prefixes)

    verdicts = asyncio.run(main())
    for one, verdict in zip(prefixes, verdicts, strict=True):
        checked_verdict(one, verdict)
    return verdicts


def test_scores_are_the_plain_models_at_the_step_ends(folder):
    found = scores(PRM(folder), prefix(*SOLUTION))[0]
    ids = prefix(*SOLUTION).tokens
    bounds = [len(prefix(*SOLUTION[:i]).tokens) - 1 for i in (1, 2, 3)]
    assert [ids[i] for i in bounds] == [*ids_of("\n\n"), *ids_of("\n\n"), END]
    expected = truth(folder, ids)
    assert found.steps == pytest.approx([expected[i] for i in bounds], abs=1e-4)
    assert found.value == found.steps[-1]


def test_only_the_new_step_is_read(plain):
    async def main():
        async with PRM(plain) as prm:
            found = [(await prm.score([prefix(*SOLUTION[:i])]))[0] for i in (1, 2, 3)]
            forks = [prefix(*SOLUTION[:1], step(text)) for text in ("1+1=2\n\n", "8*3=24\n\n")]
            return found, await prm.score(forks), forks, await prm.score([prefix(*SOLUTION[:2])])

    found, forked, forks, again = asyncio.run(main())
    sizes = [len(prefix(*SOLUTION[:i]).tokens) for i in range(4)]
    assert [v.cost.read for v in found] == [sizes[1], sizes[2] - sizes[1], sizes[3] - sizes[2]]
    assert [v.cost.reused for v in found] == [0, sizes[1], sizes[2]]
    shared = len(ids_of("3*8=24\n\n")) - len(ids_of("*8=24\n\n"))
    assert shared == 1
    assert [v.cost.read for v in forked] == [len(fork.steps[1].tokens) for fork in forks]
    assert [v.cost.passes for v in (*found, *forked, *again)] == [1] * 6
    assert again[0].cost.read == 0 and again[0].steps == found[1].steps
    fresh = scores(PRM(plain), prefix(*SOLUTION), *forks)
    for a, b in zip((found[2], *forked), fresh, strict=True):
        assert a.steps == pytest.approx(b.steps, abs=1e-5)


def test_a_merged_separator_is_read_where_it_is_merged(plain):
    steps = (step("1+2.\n\n"), step("3\n\n="), step("4", Finish.END))
    assert steps[0].tokens[-1] != ids_of("\n\n")[0] and steps[1].tokens[-1] != ids_of("\n\n")[0]
    found = scores(PRM(plain), prefix(*steps))[0]
    expected = truth(plain, prefix(*steps).tokens)
    ends = [len(prefix(*steps[:i]).tokens) - 1 for i in (1, 2, 3)]
    assert found.steps == pytest.approx([expected[i] for i in ends], abs=1e-4)


def test_an_end_token_left_out_by_the_policy_is_added(plain):
    bare = Segment(ids_of("so 24"), "so 24", (), Finish.END)
    with_end = scores(PRM(plain), prefix(step("so 24", Finish.END)))[0]
    without = scores(PRM(plain), prefix(bare))[0]
    assert without.steps == pytest.approx(with_end.steps, abs=1e-6)
    empty = scores(PRM(plain), prefix(Segment((), "", (), Finish.EMPTY)))[0]
    assert empty.value == pytest.approx(truth(plain, (*ids_of(PROMPT), END))[-1], abs=1e-4)


@pytest.mark.parametrize(("how", "combine"), [("min", min), ("last", lambda v: v[-1]), ("mean", lambda v: sum(v) / 3)])
def test_a_completion_in_one_piece_is_read_at_each_of_its_lines(plain, how, combine):
    text = "1+2=3\n\n3*8=24\n\nso 24"
    whole = prefix(step(text, Finish.END))
    found = scores(PRM(plain, within=how), whole)[0]
    expected = truth(plain, whole.tokens)
    separator = ids_of("\n\n")[0]
    marks = [i for i, token in enumerate(whole.tokens) if token == separator] + [len(whole.tokens) - 1]
    assert len(marks) == 3
    assert found.steps == pytest.approx([combine([expected[i] for i in marks])], abs=1e-4)


def test_a_cut_segment_is_read_where_it_was_cut(plain):
    cut = prefix(SOLUTION[0], Segment(ids_of("3*"), "3*", (), Finish.LENGTH))
    none = prefix(SOLUTION[0], Segment((), "", (), Finish.LENGTH))
    found, empty = scores(PRM(plain), cut, none)
    expected = truth(plain, cut.tokens)
    assert found.value == pytest.approx(expected[-1], abs=1e-4)
    assert empty.steps == pytest.approx([expected[len(none.tokens) - 1]] * 2, abs=1e-4)


def test_other_vocabularies_are_rendered_anew_with_stable_ids(plain):
    other = tuple(
        Segment(tuple(range(5, 8)), one.text, (), one.finish) for one in (step("1+2=3\n\n"), step("so 24", Finish.END))
    )
    foreign = Prefix(Segment((7, 8, 9), "[Q]"), other, QUESTION)
    texts = Prefix(Segment((), "[Q]"), tuple(Segment((), s.text, (), s.finish) for s in other), QUESTION)
    own = prefix(step("1+2=3\n\n"), step("so 24", Finish.END))
    a, b, c = scores(PRM(plain), foreign, texts, own)
    assert a.steps == pytest.approx(c.steps, abs=1e-5) and b.steps == pytest.approx(c.steps, abs=1e-5)
    forced = scores(PRM(plain, ids="own"), own)[0]
    assert forced.steps == pytest.approx(c.steps, abs=1e-5)


def test_own_ids_of_a_merged_step_have_the_plain_separator(plain):
    merged = prefix(step("1+2.\n\n"), step("3\n\n="))
    found = scores(PRM(plain, ids="own"), merged)[0]
    ids = ids_of(PROMPT) + ids_of("1+2.") + ids_of("\n\n")
    assert found.steps[0] == pytest.approx(truth(plain, ids)[-1], abs=1e-4)


def test_what_cannot_be_read_is_an_error_and_never_a_score(plain):
    bad = [
        (PRM(plain), prefix(), "no step end"),
        (PRM(plain, ids="policy"), Prefix(Segment((5,), "something else"), SOLUTION), "vocabulary"),
        (PRM(plain, ids="own"), Prefix(Segment((5,), "?"), SOLUTION), "the question"),
        (PRM(plain), prefix(Segment(ids_of("12"), "34", (), Finish.STEP)), "stand for something else"),
        (PRM(plain, max_context=12), prefix(*SOLUTION), "cannot read"),
    ]
    for prm, one, message in bad:
        with pytest.raises(VerifierError, match=message):
            scores(prm, one)
    with pytest.raises(VerifierError, match="not loaded"):
        asyncio.run(PRM(plain).score([prefix(*SOLUTION)]))


def test_settings_are_checked(plain, tmp_path):
    for wrong in ({"within": "best"}, {"ids": "both"}, {"dtype": "int4"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            PRM(plain, **wrong)
    with pytest.raises(ConfigError, match="separator"):
        scores(PRM(plain, separator="abc"), prefix(*SOLUTION))
    no_head = checkpoint(tmp_path, hidden=32, heads=1)
    with pytest.raises(ConfigError, match="score"):
        scores(PRM(str(no_head)), prefix(*SOLUTION))


def test_a_head_of_another_size_is_refused(tmp_path):
    from safetensors.torch import save_file

    folder = reward_model(tmp_path, "one layer", hidden=32, heads=1)
    weights = load_file(folder / "model.safetensors") | {
        "score.weight": torch.zeros(3, 32),
        "score.bias": torch.zeros(3),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="two labels"):
        scores(PRM(str(folder)), prefix(*SOLUTION))


def test_batches_equal_single_calls_in_any_order(plain):
    many = [prefix(*SOLUTION[:i]) for i in (3, 1, 2)] + [prefix(step(f"{i}\n\n")) for i in range(9)]
    batch = scores(PRM(plain), *many)

    async def one_by_one():
        async with PRM(plain) as prm:
            return [(await prm.score([one]))[0] for one in many[::-1]][::-1]

    alone = asyncio.run(one_by_one())
    for a, b in zip(batch, alone, strict=True):
        assert a.steps == pytest.approx(b.steps, abs=1e-5)
    assert scores(PRM(plain)) == []


@pytest.mark.parametrize("kind", [PRM, Regret])
def test_the_laws_that_ship_with_the_port(plain, kind):
    async def main():
        many = [prefix(*SOLUTION[:i]) for i in (1, 2, 3)] + [prefix(step("3*8=24", Finish.END))]
        async with kind(plain) as verifier:
            await check_verifier(verifier, many)

    asyncio.run(main())


def test_a_fingerprint_tells_models_and_settings_apart(plain, folder):
    prints = {PRM(plain).fingerprint, PRM(folder).fingerprint, PRM(plain, within="min").fingerprint}
    prints.add(Aggregate(PRM(plain), "min").fingerprint)
    assert len(prints) == 4 and PRM(plain, memory="1MB").fingerprint in prints


class Given:
    """Step values as told."""

    def __init__(self, *steps):
        self.steps = steps

    async def score(self, prefixes):
        return [Verdict(0.5, self.steps) for _ in prefixes]


@pytest.mark.parametrize(("how", "value"), [("last", 0.5), ("min", 0.2), ("mean", 0.5), ("prod", 0.08)])
def test_aggregates(how, value):
    async def main():
        async with Aggregate(Given(0.8, 0.2, 0.5), how) as verifier:
            return await verifier.score([prefix(*SOLUTION)])

    assert asyncio.run(main())[0].value == pytest.approx(value)


def test_an_aggregate_wants_one_value_per_step():
    with pytest.raises(VerifierError, match="2 step values"):
        asyncio.run(Aggregate(Given(0.1, 0.2), "min").score([prefix(*SOLUTION)]))
    with pytest.raises(ConfigError, match="how"):
        Aggregate(Given(), "median")


def test_an_aggregate_opens_and_closes_what_it_holds(plain):
    found = scores(Aggregate(PRM(plain), "min"), prefix(*SOLUTION))[0]
    assert found.value == min(found.steps)
