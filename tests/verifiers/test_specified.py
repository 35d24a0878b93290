"""Each published family of reward models, as its configuration has it, against plain `transformers` and torch."""

import asyncio
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tokenizers import normalizers
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from policies.tiny import add_head, checkpoint, sentence_piece, tokenizer
from search.contract import checked_verdict
from search.errors import ConfigError, VerifierError
from search.types import Finish, Prefix, Segment
from verifiers.curves import Temperature
from verifiers.form import Answer, Chat, Plain, Turns
from verifiers.readout import Classes, Labels, Value
from verifiers.specified import Specified
from verifiers.testing import check_verifier

CONF = Path(__file__).resolve().parent.parent.parent / "conf" / "verifier"
QUESTION = "What is 2*(3+4)? \u00c9crivez \\boxed{}."
STEPS = ("Add: 3+4=7.", "Then 2*7=14.\nSo far so good", "The answer is \\boxed{14}.")
QWEN = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def qwen():
    return tokenizer(("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<extra_0>"), QWEN, "<|im_end|>", "<|endoftext|>")


def llama():
    more = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return tokenizer(more, LLAMA, "<|eot_id|>", "<|begin_of_text|>")


def segments(*steps, last=Finish.END):
    ends = [*[Finish.STEP] * (len(steps) - 1), last][: len(steps)]
    return tuple(
        Segment((), text + ("\n\n" if end is Finish.STEP else ""), (), end)
        for text, end in zip(steps, ends, strict=True)
    )


def prefix(*steps, last=Finish.END, question=QUESTION):
    return Prefix(Segment((), "[any prompt]"), segments(*steps, last=last), question)


def configured(name, folder, **changes):
    settings = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")) | {"model": str(folder)} | changes
    return instantiate(settings, _convert_="all")


def scores(verifier, *prefixes):
    async def main():
        async with verifier:
            return await verifier.score(prefixes)

    verdicts = asyncio.run(main())
    for one, verdict in zip(prefixes, verdicts, strict=True):
        checked_verdict(one, verdict)
    return verdicts


def words_of(folder):
    return PreTrainedTokenizerFast.from_pretrained(folder)


@torch.inference_mode()
def hidden(folder, ids):
    return AutoModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]


@torch.inference_mode()
def label_probabilities(folder, ids, labels):
    """P(first label) at each position, by the whole model's logits."""
    logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]
    return logits[:, labels].softmax(-1)[:, 0]


def head_outputs(folder, ids, name):
    """A head of one linear layer, or of two with ReLU, at each position."""
    weights, state = load_file(Path(folder) / "model.safetensors"), hidden(folder, ids)
    if f"{name}.0.weight" in weights:
        state = (state @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"]).relu()
        name = f"{name}.2"
    out = state @ weights[f"{name}.weight"].T
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


# ---- one reference per family, written as its authors' own code reads: whole text first, then its scores ----


def math_shepherd(folder, steps):
    words = words_of(folder)
    good, bad = words.encode("+ -")
    (tag,) = words.encode("ки")
    lines = [f"Step {n}: {step} ки" for n, step in enumerate(steps, 1)]
    ids = [words.bos_token_id, *words.encode(f"{QUESTION} " + "\n".join(lines))]
    found = label_probabilities(folder, ids, [good, bad])
    return found[torch.tensor(ids) == tag].tolist()


def rlhflow(folder, steps):
    words = words_of(folder)
    labels = [words.encode("+")[-1], words.encode("-")[-1]]
    chat, found = [], []
    for number, step in enumerate(steps):
        chat.append({"role": "user", "content": step if number else f"{QUESTION} {step}"})
        chat.append({"role": "assistant", "content": "+"})
        ids = words.encode(words.apply_chat_template(chat, tokenize=False))
        found.append(label_probabilities(folder, ids, labels)[-3].item())
    return found


def skywork(folder, steps):
    words = words_of(folder)
    ids = words.encode(words.bos_token + QUESTION + "\n")
    flags = [0] * len(ids)
    for step in steps:
        own = [*words.encode(step), words.encode("\n")[-1]]
        ids += own
        flags += [0] * (len(own) - 1) + [1]
    values = head_outputs(folder, ids, "v_head.summary")[:, 0].sigmoid()
    return values[torch.tensor(flags) == 1].tolist()


def extra_0(folder, steps, system=None):
    words = words_of(folder)
    chat = [{"role": "system", "content": system}] if system else []
    chat += [{"role": "user", "content": QUESTION}]
    chat += [{"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"}]
    ids = words.encode(words.apply_chat_template(chat, tokenize=False, add_generation_prompt=False))
    found = head_outputs(folder, ids, "score").softmax(-1)[:, 1]
    return found[torch.tensor(ids) == words.encode("<extra_0>")[0]].tolist()


def qwen_math_prm(folder, steps):
    return extra_0(folder, steps, "Please reason step by step, and put your final answer within \\boxed{}.")


def prm800k(folder, steps):
    words = words_of(folder)
    labels = [words.encode(label)[0] for label in ("-", "+", "0")]
    ids, places = words.encode(QUESTION + "\n\n"), []
    for step in steps:
        ids += [*words.encode(step), *words.encode("\n\n")]
        places.append(len(ids) - 1)
    return (1 - label_probabilities(folder, ids, labels))[places].tolist()


LINES = [line for step in STEPS for line in step.split("\n")]


def last_of(per_line):
    """The scores of LINES, for STEPS: the second has two lines."""
    return [per_line[0], per_line[2], per_line[3]]


def mistral_folder(path):
    return checkpoint(path, "mistral", hidden=32, words=sentence_piece(("ки", "+", "-")))


def llama_folder(path):
    return checkpoint(path, "llama", hidden=32, words=llama())


def qwen_folder(path, name="score", size=2, layers=2, kind="Qwen2ForProcessRewardModel", **more):
    return add_head(checkpoint(path, "qwen2", hidden=32, words=qwen()), name, size, kind, layers=layers, **more)


FAMILIES = {
    "math_shepherd": (mistral_folder, lambda f: math_shepherd(f, STEPS)),
    "rlhflow_deepseek": (llama_folder, lambda f: rlhflow(f, STEPS)),
    "rlhflow_mistral": (llama_folder, lambda f: last_of(rlhflow(f, LINES))),
    "skywork": (
        lambda path: qwen_folder(path, "v_head.summary", 1, 1, "Qwen2ForCausalLM"),
        lambda f: last_of(skywork(f, LINES)),
    ),
    "qwen_math_prm": (qwen_folder, lambda f: qwen_math_prm(f, STEPS)),
    "prm800k": (lambda path: checkpoint(path, "qwen3", hidden=32), lambda f: prm800k(f, STEPS)),
    "reasonflux": (qwen_folder, lambda f: extra_0(f, STEPS)),
}
POOLED = {"prm800k": lambda v: v[0] * v[1] * v[2], "reasonflux": lambda v: sum(v) / 3}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    make, reference = FAMILIES[request.param]
    return request.param, str(make(tmp_path_factory.mktemp(request.param))), reference


def test_a_family_scores_as_its_reference(family):
    name, folder, reference = family
    (found,) = scores(configured(name, folder), prefix(*STEPS))
    expected = reference(folder)
    assert len(set(expected)) == 3, "otherwise nothing is tested"
    assert found.steps == pytest.approx(expected, abs=1e-4)
    assert found.value == pytest.approx(POOLED.get(name, lambda v: v[-1])(expected), abs=1e-4)


def test_only_the_new_step_is_computed(family):
    name, folder, _ = family

    async def main():
        async with configured(name, folder) as prm:
            growing = [(await prm.score([prefix(*STEPS[:n], last=Finish.STEP)]))[0] for n in (1, 2, 3)]
            fork = (await prm.score([prefix(*STEPS[:2], "The answer is 15")]))[0]
            again = (await prm.score([prefix(*STEPS[:2], last=Finish.STEP)]))[0]
        async with configured(name, folder) as prm:
            return growing, fork, again, (await prm.score([prefix(*STEPS)]))[0]

    growing, fork, again, whole = asyncio.run(main())
    reads = [verdict.cost.read for verdict in growing]
    reused = [verdict.cost.reused for verdict in growing]
    # every token of the whole sequence is computed once; what one call has computed, the next one reuses
    assert sum(reads) == whole.cost.read and all(reads)
    assert reused == [0, reads[0], reads[0] + reads[1]] and whole.cost.reused == 0
    assert fork.cost.reused >= reads[0] + reads[1] and fork.cost.read <= reads[2]
    assert again.cost.read == again.cost.reused == 0 and again.cost.passes == 1
    assert again.steps == growing[1].steps
    for count, verdict in enumerate(growing, 1):
        assert verdict.steps == pytest.approx(whole.steps[:count], abs=1e-5)


def test_a_family_keeps_the_laws(family):
    name, folder, _ = family

    async def main():
        many = [prefix(*STEPS[:n], last=last) for n in (1, 2, 3) for last in (Finish.STEP, Finish.END)]
        async with configured(name, folder) as verifier:
            await check_verifier(verifier, many)

    asyncio.run(main())


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral", "qwen3"])
def test_counters_prove_it_for_each_decoder(architecture, tmp_path):
    folder = checkpoint(tmp_path, architecture, hidden=32)
    spec = Specified(model=str(folder), form=Plain(apart=True), readout=Labels(), split="\n\n")

    async def main():
        async with spec as prm:
            return [(await prm.score([prefix(*["1+2=3", "3*4=12", "12"][:n])]))[0].cost for n in (1, 2, 3)]

    costs = asyncio.run(main())
    words = words_of(folder)
    sizes = [len(words.encode(text)) + 1 for text in ("1+2=3", "3*4=12", "12")]
    first = len(words.encode(QUESTION + "\n"))
    assert [cost.read for cost in costs] == [first + sizes[0], sizes[1], sizes[2]]
    assert [cost.reused for cost in costs] == [0, first + sizes[0], first + sizes[0] + sizes[1]]


# ---- outcome reward models and value heads ----


@torch.inference_mode()
def test_an_outcome_model_is_the_sequence_classifier(tmp_path):
    from transformers import AutoModelForSequenceClassification

    folder = add_head(checkpoint(tmp_path, "llama", hidden=32, words=llama()), "score", 1, "x", bias=False)
    words = words_of(folder)
    text = "\n\n".join(step.strip() for step in "\n\n".join(STEPS).split("\n\n"))
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text}]
    ids = words.encode(words.apply_chat_template(chat, tokenize=False))
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    expected = model(torch.tensor([ids])).logits[0, 0].sigmoid().item()
    (found,) = scores(configured("orm", folder), prefix(*STEPS))
    assert found.value == pytest.approx(expected, abs=1e-4) and found.steps == ()
    steep = configured("orm", folder, readout={"_target_": "verifiers.readout.Value", "name": "score", "scale": 0.1})
    assert abs(scores(steep, prefix(*STEPS))[0].value - 0.5) < abs(expected - 0.5)


@pytest.mark.parametrize(("name", "between", "head"), [("value", "\n\n", "score"), ("trajectory", "", "reward_head")])
def test_a_value_head_reads_the_text_so_far(name, between, head, tmp_path):
    folder = add_head(checkpoint(tmp_path, "qwen2", hidden=32), head, 1, "x")
    ids = words_of(folder).encode(QUESTION + between + "\n\n".join(STEPS[:2]))
    raw = head_outputs(folder, ids, head)[-1, 0]
    expected = (raw.clamp(-1, 1) + 1) / 2 if name == "value" else raw.sigmoid()
    (found,) = scores(configured(name, folder), prefix(*STEPS[:2]))
    assert found.value == pytest.approx(expected.item(), abs=1e-4)


def test_a_value_outside_its_range_is_an_error(tmp_path):
    folder = add_head(checkpoint(tmp_path, "qwen2", hidden=32), "score", 1, "x")
    spec = Specified(model=str(folder), form=Answer(text="{question}{answer}"), readout=Value("score", "unit"))
    texts = [prefix(f"{n}.") for n in range(20)]
    with pytest.raises(VerifierError, match="set squash to sigmoid"):
        scores(spec, *texts)


# ---- never a score for what was not read ----


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return str(qwen_folder(tmp_path_factory.mktemp("plain")))


def spec(folder, form, readout=Classes(), **more):
    return Specified(model=folder, form=form, readout=readout, **more)


def test_a_merged_separator_raises(plain):
    # ".\n\n" and "\n\n=" are single tokens of this vocabulary
    merging = spec(plain, Plain(separator="\n\n"))
    assert len(scores(merging, prefix("1", "2"))[0].steps) == 2
    with pytest.raises(VerifierError, match=r"step 1 is merged with its neighbour into '.\\n\\n'"):
        scores(merging, prefix("1.", "2"))
    with pytest.raises(VerifierError, match=r"step 1 is merged with its neighbour into '\\n\\n='"):
        scores(merging, prefix("1", "=2"))
    assert len(scores(spec(plain, Plain(separator="\n\n", apart=True)), prefix("1.", "=2"))[0].steps) == 2


def test_a_separator_that_is_not_one_token_raises_at_the_door(plain):
    for form in (Chat(separator="<extra_1>"), Plain(separator="<extra_1>", apart=True), Plain(separator="ки")):
        with pytest.raises(ConfigError, match="not one"):
            scores(spec(plain, form), prefix("1"))


def test_a_separator_dropped_by_the_template_raises(tmp_path):
    words = tokenizer(template=LLAMA.replace("bos_token", "''"))
    folder = str(add_head(checkpoint(tmp_path, "qwen2", hidden=32, words=words), "score", 2, "x"))
    with pytest.raises(ConfigError, match="does not write the steps and their separators"):
        scores(spec(folder, Chat(separator="\n\n")), prefix("1"))


def test_a_template_that_rewrites_turns_raises(tmp_path):
    words = tokenizer(
        template="{% for m in messages %}<|user|>{{ m['content'] | upper }}{{ messages|length }}{% endfor %}"
    )
    folder = str(checkpoint(tmp_path, "qwen2", hidden=32, words=words))
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        scores(spec(folder, Turns(), Labels()), prefix("1"))


def test_a_step_that_writes_the_separator_raises(plain):
    with pytest.raises(VerifierError, match="step 2 has the separator"):
        scores(spec(plain, Chat()), prefix("1", "2<extra_0>3"))


def test_what_cannot_be_read_raises(plain):
    bad = [
        (spec(plain, Chat()), prefix(), "without steps"),
        (spec(plain, Chat()), prefix(""), "without steps"),
        (spec(plain, Chat()), Prefix(Segment((), ""), segments("", "1"), QUESTION), "first step has no text"),
        (spec(plain, Chat()), prefix("1", question=""), "no question"),
        (spec(plain, Chat(), max_context=20), prefix(*STEPS), "cannot read"),
    ]
    for verifier, one, message in bad:
        with pytest.raises(VerifierError, match=message):
            scores(verifier, one)
    with pytest.raises(VerifierError, match="not loaded"):
        asyncio.run(spec(plain, Chat()).score([prefix("1")]))


def test_a_step_without_text_is_worth_what_was_before_it(plain):
    one = Prefix(Segment((), ""), (*segments("1", "2", last=Finish.STEP), Segment((), "", (), Finish.EMPTY)), QUESTION)
    found, shorter = scores(spec(plain, Chat()), one, prefix("1", "2"))
    assert found.steps == (*shorter.steps, shorter.steps[-1])


def test_labels_and_heads_that_the_model_lacks_raise_at_the_door(plain):
    for readout, message in [
        (Labels(good=("right",)), "5 tokens"),
        (Labels(good=("+", "+")), "same token"),
        (Classes(name="value"), "no head `value`"),
        (Classes(classes=3), "gives 2 numbers, not 3"),
        (Value(name="score"), "gives 2 numbers, not 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            scores(spec(plain, Chat(), readout), prefix("1"))


def test_settings_are_checked(plain):
    for wrong in ({"within": "best"}, {"pool": "best"}, {"truncation": "right"}, {"split": ""}, {"calibration": "x"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            spec(plain, Chat(), **wrong)
    for make, field in [
        (lambda: Plain(opening="?"), "opening"),
        (lambda: Plain(separator=""), "separator"),
        (lambda: Chat(user=""), "user"),
        (lambda: Turns(first="{step}"), "first"),
        (lambda: Turns(label=""), "label"),
        (lambda: Answer(text="{answer}"), "text"),
        (lambda: Labels(good=()), "good"),
        (lambda: Labels(good="-"), "good"),
        (lambda: Classes(good=(0, 1)), "good"),
        (lambda: Value(squash="tanh"), "squash"),
    ]:
        with pytest.raises(ConfigError, match=field):
            make()


def test_a_step_beyond_the_context_is_read_after_the_last_tokens(plain):
    whole = scores(spec(plain, Chat()), prefix(*STEPS))[0]
    words = words_of(plain)
    answer = "<extra_0>".join(STEPS) + "<extra_0>"
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]
    text = words.apply_chat_template(chat, tokenize=False)
    rendered = words.encode(text)
    marks = [i for i, token in enumerate(rendered) if token == words.encode("<extra_0>")[0]]
    limit = marks[1] + 1
    cut = spec(plain, Chat(), truncation="left", max_context=limit)
    found, again = scores(cut, prefix(*STEPS), prefix(*STEPS))
    assert found.steps[:2] == pytest.approx(whole.steps[:2], abs=1e-5)
    window = rendered[marks[2] + 1 - limit : marks[2] + 1]
    assert found.steps[2] == pytest.approx(head_outputs(plain, window, "score").softmax(-1)[-1, 1].item(), abs=1e-4)
    assert found.steps[2] != pytest.approx(whole.steps[2], abs=1e-6)


def test_calibration_and_rules_change_the_value(plain):
    raw = scores(spec(plain, Chat()), prefix(*STEPS))[0]
    curve = Temperature(2.0, 0.5)
    bent = scores(spec(plain, Chat(), calibration=curve), prefix(*STEPS))[0]
    assert bent.steps == pytest.approx([curve(p) for p in raw.steps])
    least = scores(spec(plain, Chat(), pool="min"), prefix(*STEPS))[0]
    assert least.value == min(raw.steps)
    inner = scores(spec(plain, Chat(), split="\n", within="min"), prefix(*STEPS))[0]
    single = scores(spec(plain, Chat()), prefix(*LINES))[0]
    assert inner.steps == pytest.approx((single.steps[0], min(single.steps[1:3]), single.steps[3]), abs=1e-5)


def test_a_fingerprint_tells_descriptions_apart(plain):
    prints = {spec(plain, form).fingerprint for form in (Chat(), Chat(system="s"), Plain(), Turns(), Answer())}
    prints |= {spec(plain, Chat(), **more).fingerprint for more in ({"pool": "min"}, {"calibration": Temperature(2.0)})}
    assert len(prints) == 7 and spec(plain, Chat(), memory="1MB").fingerprint in prints


def test_a_pair_of_special_tokens_as_labels(tmp_path):
    words = tokenizer(("<extra_0>", "<good>", "<bad>"), QWEN)
    folder = str(checkpoint(tmp_path, "llama", hidden=32, tied=True, words=words))
    (found,) = scores(spec(folder, Chat(), Labels(("<good>",), ("<bad>",))), prefix(*STEPS))
    chat = [{"role": "user", "content": QUESTION}]
    chat.append({"role": "assistant", "content": "<extra_0>".join(STEPS) + "<extra_0>"})
    ids = words.encode(words.apply_chat_template(chat, tokenize=False))
    labels = [words.convert_tokens_to_ids(label) for label in ("<good>", "<bad>")]
    at = torch.tensor(ids) == words.convert_tokens_to_ids("<extra_0>")
    assert found.steps == pytest.approx(label_probabilities(folder, ids, labels)[at].tolist(), abs=1e-4)


def test_a_tokenizer_that_composes_characters_is_followed(tmp_path):
    words = qwen()
    words.backend_tokenizer.normalizer = normalizers.NFC()
    path = add_head(checkpoint(tmp_path, "qwen2", hidden=32, words=words), "score", 2, "x", layers=2)
    composed, apart = "caf\u00e9 = 1", "cafe\u0301 = 1"
    one, other = scores(spec(str(path), Chat()), prefix(composed, "2"), prefix(apart, "2"))
    assert one.steps == pytest.approx(other.steps, abs=1e-6)


def test_a_tokenizer_that_changes_the_text_is_refused(tmp_path):
    words = qwen()
    words.backend_tokenizer.normalizer = normalizers.Lowercase()
    path = add_head(checkpoint(tmp_path, "qwen2", hidden=32, words=words), "score", 2, "x")
    with pytest.raises(ConfigError, match="tokenizer makes 'y' of 'You are"):
        scores(spec(str(path), Chat()), prefix("so"))
    with pytest.raises(VerifierError, match="tokenizer makes 'n' of 'No<extra"):
        scores(spec(str(path), Chat(system="s")), prefix("No", question="so"))
