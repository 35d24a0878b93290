"""The generative judge: its prompts, what it reads of critiques, and its probability against plain `transformers`."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.embedded import Embedded
from policies.tiny import scripted, tokenizer
from search.errors import ConfigError, VerifierError
from search.types import Cost, Finish, Prefix, Reply, Segment
from verifiers.generative import INSTRUCTION, Generative
from verifiers.testing import check_verifier

GOOD = " Step 1: fine. \\boxed{correct}\nStep 2: fine. The step is \\boxed{correct}\nIs the solution correct? Yes"
STOPPED = " Step 1: no, 1+1=2. \\boxed{incorrect}\n</think>"


@dataclass(frozen=True)
class Told:
    """A policy that writes what it was told, in turn by seed; notes the prompts."""

    texts: tuple[str, ...]
    log: list = field(default_factory=list, compare=False, repr=False)

    fingerprint = "told"

    def prompt(self, messages):
        return self.write("".join(f"<{m['role']}>{m['content']}" for m in messages))

    def write(self, text):
        return Segment(tuple(map(ord, text)), text)

    def turn(self, text):
        return self.write(text)

    async def sample(self, requests):
        return [Reply(tuple(map(self._segment, range(len(r.seeds)), [r] * len(r.seeds))), Cost(7, 3)) for r in requests]

    def _segment(self, number, request):
        whole = request.prefix.prompt.text + request.prefix.text
        self.log.append(whole)
        text = " yes," if whole.endswith("correct? ") else self.texts[number % len(self.texts)]
        until = request.sampling.until
        size = next((n for n in range(1, len(text) + 1) if until.ends(text[:n], n)), None)
        text = text if size is None else text[:size]
        finish = Finish.END if size is None else Finish.STEP
        return Segment(tuple(map(ord, text)), text, (-1.0,) * len(text), finish)


@dataclass(frozen=True)
class Likely(Told):
    """The same with likelihoods: "yes" has one nat a token, "no" two."""

    async def logprobs(self, prefixes, continuations):
        self.log.extend(prefix.prompt.text + prefix.text for prefix in prefixes)
        return [(-1.0 if one.text == "yes" else -2.0,) * len(one.tokens) for one in continuations]


def prefix(*steps, question="What is 1+1+1?"):
    return Prefix(Segment((1,), "?"), tuple(Segment((2,), text, (-1.0,)) for text in steps), question)


TWO = prefix("1+1=2\n\n", "Step 2: 2+1=3")


def verdict(policy, one=TWO, **settings):
    (found,) = asyncio.run(Generative(policy, **settings).score([one]))
    return found


def test_problem_and_steps_are_put_as_the_published_models_know_them():
    policy = Likely((GOOD,))
    found = verdict(policy)
    asked, decided, _ = policy.log
    assert "[Math Problem]\n\nWhat is 1+1+1?\n\n[Solution]\n\nStep 1: 1+1=2\nStep 2: 2+1=3\n\nReview" in asked
    assert asked.endswith("the provided steps.\nLet's verify step by step:")
    # the critique is cut where it would have asked the question itself
    assert decided == asked + GOOD.removesuffix("\nIs the solution correct? Yes") + "\n\nIs the solution correct? "
    assert found.steps == (1.0, 1.0)
    assert found.value == pytest.approx(math.exp(-1) / (math.exp(-1) + math.exp(-2)))
    assert found.cost.passes == 1 and found.cost.generated == 0 and found.cost.read > 7 + 3


def test_critiques_vote_on_each_step():
    assert verdict(Likely((STOPPED,))).steps == (0.0, 0.0), "what follows an incorrect step is incorrect"
    found = verdict(Likely((GOOD, STOPPED, GOOD.replace("The step is \\boxed{correct}", "\\boxed{Incorrect}"))), n=3)
    assert found.steps == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_it_is_stopped_before_it_judges_steps_that_do_not_exist():
    runs_on = GOOD.replace("\nIs the solution", "\nStep 3: more \\boxed{incorrect}\nIs the solution")
    assert verdict(Likely((runs_on,))).steps == (1.0, 1.0)


def test_malformed_critiques_do_not_count_and_alone_are_an_error():
    lazy = " Looks good. \\boxed{correct}\n</think>"
    assert verdict(Likely((lazy, GOOD)), n=2).steps == (1.0, 1.0)
    with pytest.raises(VerifierError, match="none of 2 critiques of 2 steps"):
        verdict(Likely((lazy,)), n=2)
    assert verdict(Likely((lazy,)), steps=False).steps == ()


def test_without_likelihoods_the_policy_answers():
    found = verdict(Told((GOOD,)))
    assert found.value == 1.0 and found.cost == Cost(passes=1, read=20)
    with pytest.raises(VerifierError, match="none of 1"):
        verdict(Told((GOOD,)), good="certainly", bad="no")


def test_what_cannot_be_judged_is_an_error():
    for one, message in [
        (prefix(), "no step"),
        (prefix("1", question=""), "no question"),
        (prefix("", "1"), "first step"),
    ]:
        with pytest.raises(VerifierError, match=message):
            verdict(Likely((" \\boxed{correct}</think>",)), one)

    class Mute:
        async def sample(self, requests):
            raise AssertionError

    with pytest.raises(ConfigError, match="chat template"):
        verdict(Mute())
    for wrong in ({"n": 0}, {"instruction": "{question}"}, {"decision": " "}, {"seed": -1}, {"max_tokens": 0}):
        with pytest.raises(ConfigError):
            Generative(Told(()), **wrong)


def test_it_keeps_the_laws():
    many = [TWO, prefix("1+1=2", "2+1=3", "3")]
    asyncio.run(check_verifier(Generative(Likely((STOPPED, GOOD)), n=2), many))


@torch.inference_mode()
def test_its_probability_is_that_of_the_model(tmp_path):
    words = tokenizer()
    y, n, k, colon, blank, end = (words.encode(t)[0] for t in ("y", "n", "k", ":", " ", "<|end|>"))
    folder = str(scripted(tmp_path, {colon: {k: 30.0}, k: {end: 30.0}, blank: {y: 2.0, n: 1.0}}, context=1024))
    judge = Generative(Embedded(folder), steps=False, good="y", bad="n")

    async def main():
        async with judge:
            return (await judge.score([TWO]))[0]

    found = asyncio.run(main())
    solution = "Step 1: 1+1=2\nStep 2: 2+1=3"
    content = INSTRUCTION.replace("{question}", TWO.question).replace("{solution}", solution)
    text = (
        words.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        + "\nLet's verify step by step:k\nIs the solution correct? "
    )
    logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([words.encode(text)])).logits[0, -1]
    assert found.value == pytest.approx(logits[[y, n]].softmax(-1)[0].item(), abs=1e-4)
    assert found.value == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-3) and found.cost.generated == 0
