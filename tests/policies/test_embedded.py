"""The embedded policy: what the port promises, and what it refuses."""

import asyncio
import json
import pickle

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from policies.embedded import Embedded
from policies.testing import check_policy
from policies.tiny import checkpoint, tokenizer
from search.algorithms.beam import Beam
from search.contract import checked_reply
from search.errors import ConfigError, PolicyError
from search.ports import Describes, KeepsPrefixes, Likelihood, Renders
from search.run import run
from search.session import Session
from search.steps import Delimiter, Tokens
from search.types import Finish, Prefix, Request, Sampling, Segment

WORDS = tokenizer()
END = WORDS.eos_token_id


def ids_of(text):
    return WORDS.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(checkpoint(tmp_path_factory.mktemp("policy"), end_bias=1.5, scale=0.25))


MESSAGES = [{"role": "user", "content": "Make 24 from 4 9 10 13."}]


def with_policy(folder, work, **settings):
    async def main():
        async with Embedded(folder, **settings) as policy:
            return await work(policy)

    return asyncio.run(main())


def test_the_prompt_is_the_template_rendered_once(folder):
    async def work(policy):
        return policy.prompt(MESSAGES)

    prompt = with_policy(folder, work)
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    assert list(prompt.tokens) == words.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert prompt.text == "<|user|>Make 24 from 4 9 10 13.<|assistant|>"


def test_the_tokenizer_is_the_files_own_whatever_the_model_type(folder):
    text = "Make 12 from 1 2  3.\n\n= \u00e9 e\u0301"

    async def work(policy):
        return policy.prompt([{"role": "user", "content": text}]).tokens

    assert list(with_policy(folder, work)) == ids_of(f"<|user|>{text}<|assistant|>")


@pytest.mark.parametrize(
    "sampling", [Sampling(until=Tokens(3), max_tokens=7), Sampling(0.8, 30, 0.9, 9, Delimiter(("1",)))]
)
def test_the_laws_that_ship_with_the_port(folder, sampling):
    async def work(policy):
        prompts = [Prefix(policy.prompt([{"role": "user", "content": f"q{i}"}])) for i in range(3)]
        reply = (await policy.sample([Request(prompts[0], sampling, (1,))]))[0]
        await check_policy(policy, [*prompts, prompts[0] + reply.segments[0]], sampling)

    with_policy(folder, work)


def test_replies_are_exact_and_counted(folder):
    def requests(policy):
        prompts = [Prefix(policy.prompt([{"role": "user", "content": f"q{i}"}])) for i in range(6)]
        kinds = [
            Sampling(until=Tokens(3), max_tokens=9),
            Sampling(0.0, max_tokens=7),
            Sampling(0.7, 5, 0.9, 12, Delimiter(("1", "2", "a"))),
        ]
        return [Request(p, kinds[i % 3], (i, 7, i + 10)) for i, p in enumerate(prompts)]

    async def work(policy):
        asked = requests(policy)
        batch = await policy.sample(asked)
        alone = [(await policy.sample([request]))[0] for request in asked]
        back = await policy.sample(asked[::-1])
        split = [
            (await policy.sample([Request(r.prefix, r.sampling, (seed,))]))[0].segments[0]
            for r in asked
            for seed in r.seeds
        ]
        assert list(await policy.sample([])) == []
        words = policy.engine
        assert words.kv.held
        return asked, batch, alone, back, split

    asked, batch, alone, back, split = with_policy(folder, work)

    def content(replies):
        return [[(s.tokens, s.text, s.finish) for s in reply.segments] for reply in replies]

    assert content(batch) == content(alone) == content(back[::-1])
    assert [(s.tokens, s.text, s.finish) for s in split] == [one for reply in content(batch) for one in reply]
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    for request, reply in zip(asked, batch, strict=True):
        checked_reply(request, reply)
        size = len(request.prefix.tokens)
        assert reply.cost.prefilled + reply.cost.reused == size
        assert reply.cost.generated == sum(len(s.tokens) for s in reply.segments)
        assert reply.cost.seconds > 0
        for segment in reply.segments:
            ended = segment.finish in (Finish.END, Finish.EMPTY)
            bare = segment.tokens[:-1] if ended else segment.tokens
            assert words.decode(bare) == segment.text
            assert (segment.tokens[-1] == END) == ended


def test_log_probabilities_are_those_of_the_distribution_sampled_from(folder):
    sampling = Sampling(0.8, top_k=20, top_p=0.9, max_tokens=8)

    async def work(policy):
        prefix = Prefix(policy.prompt(MESSAGES))
        reply = (await policy.sample([Request(prefix, sampling, (1, 2, 3))]))[0]
        return prefix, reply.segments, await policy.logprobs([prefix] * 3, reply.segments)

    prefix, segments, likelihoods = with_policy(folder, work)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for segment, likelihood in zip(segments, likelihoods, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prefix.tokens + segment.tokens])).logits[0, len(prefix.tokens) - 1 : -1]
        for row, token, seen, plain in zip(logits, segment.tokens, segment.logprobs, likelihood, strict=True):
            assert plain == pytest.approx(float(row.log_softmax(-1)[token]), abs=1e-3)
            top = (row / 0.8).topk(20)
            share = top.values.softmax(-1)
            kept = share[(share.cumsum(-1) - share) < 0.9]
            place = top.indices.tolist().index(token)
            assert seen == pytest.approx(float((kept / kept.sum()).log()[place]), abs=1e-3)


def test_a_continuation_without_tokens_has_no_log_probabilities(folder):
    async def work(policy):
        return await policy.logprobs([Prefix(policy.prompt(MESSAGES))], [Segment((), "")])

    assert with_policy(folder, work) == [()]


def test_abilities_are_declared(folder):
    policy = Embedded(folder)
    assert isinstance(policy, Describes) and isinstance(policy, Renders)
    assert isinstance(policy, KeepsPrefixes) and isinstance(policy, Likelihood)


def test_searches_at_once_grow_the_same_trees_as_one_by_one_in_hardly_any_memory(folder):
    class Longest:
        """Scores by text alone."""

        async def score(self, prefixes):
            from search.types import Verdict

            return [Verdict(1 / (1 + len(prefix.text.strip()))) for prefix in prefixes]

    def session(policy, i):
        return Session(
            policy.prompt([{"role": "user", "content": f"problem {i}"}]),
            policy,
            Longest(),
            step=Sampling(until=Tokens(3), max_tokens=6),
            whole=Sampling(max_tokens=9),
            seed=i,
        )

    search = Beam(beams=2, width=3, depth=3)

    async def together(policy):
        outcomes = await asyncio.gather(*(run(search, session(policy, i)) for i in range(6)))
        return [shape(outcome.tree) for outcome in outcomes], outcomes

    async def apart(policy):
        outcomes = [await run(search, session(policy, i)) for i in range(6)]
        return [shape(outcome.tree) for outcome in outcomes], outcomes

    def shape(tree):
        return [(node.id, node.segment.tokens, node.segment.text, node.score) for node in tree]

    rich, outcomes = with_policy(folder, together)
    poor, _ = with_policy(folder, apart, memory=60 * 512, max_context=48, rows=2)
    assert rich == poor
    prompts = [outcome.tree.root.segment.tokens for outcome in outcomes]
    distinct = {ids[: i + 1] for ids in prompts for i in range(len(ids))}
    expanded = sum(bool(node.children) for outcome in outcomes for node in outcome.tree if node.depth)
    # every distinct prompt token once, over all problems, then the last token of each node that was expanded
    assert sum(outcome.spent.prefilled for outcome in outcomes) == len(distinct) + expanded


def test_a_folder_that_is_no_model_is_one_clear_sentence(tmp_path, folder):
    with pytest.raises(ConfigError, match="give the folder of a model"):
        with_policy(str(tmp_path / "nowhere"), None)
    with pytest.raises(ConfigError, match=r"config\.json"):
        with_policy(str(tmp_path), None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="safetensors"):
        with_policy(str(tmp_path), None)
    with pytest.raises(ConfigError, match="max_context"):
        with_policy(folder, None, max_context=100_000)
    for wrong in ({"dtype": "int8"}, {"memory": "much"}, {"rows": 0}, {"threads": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Embedded(folder, **wrong)


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path):
    folder = checkpoint(tmp_path, hidden=32, heads=1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(ConfigError, match="do not fit"):
        with_policy(str(folder), None)


def test_it_is_a_value_until_it_is_loaded(folder):
    policy = Embedded(folder)
    assert policy == Embedded(folder) and pickle.loads(pickle.dumps(policy)) == policy
    assert "loaded" not in repr(policy)
    with pytest.raises(PolicyError, match="not loaded"):
        asyncio.run(policy.sample([Request(Prefix(Segment((5,), "x")), Sampling(), (1,))]))


def test_prefixes_it_cannot_continue_are_refused(folder):
    for tokens in ((), (5, 10**6), (-1,)):

        async def work(policy, tokens=tokens):
            await policy.sample([Request(Prefix(Segment(tokens, "x")), Sampling(), (1,))])

        with pytest.raises(PolicyError):
            with_policy(folder, work)


def test_the_fingerprint_follows_weights_and_numbers(tmp_path, folder):
    same = Embedded(folder, memory="9MB", rows=3).fingerprint
    assert same == Embedded(folder).fingerprint
    other = checkpoint(tmp_path, end_bias=1.5, scale=0.25, seed=5)
    assert len({same, Embedded(folder, dtype="bfloat16").fingerprint, Embedded(str(other)).fingerprint}) == 3


def test_hints_change_no_draw(folder):
    async def work(policy):
        prefix = Prefix(policy.prompt(MESSAGES))
        request = Request(prefix, Sampling(until=Tokens(3), max_tokens=9), (1, 2))
        before = (await policy.sample([request]))[0]
        for segment in before.segments:
            policy.retain(prefix + segment)
            policy.release(prefix + segment)
        policy.release(prefix)
        return before.segments, (await policy.sample([request]))[0]

    before, after = with_policy(folder, work)
    assert [s.tokens for s in before] == [s.tokens for s in after.segments]
    assert after.cost.prefilled == len(ids_of("<|user|>Make 24 from 4 9 10 13.<|assistant|>"))
