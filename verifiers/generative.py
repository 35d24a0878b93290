"""A process reward model that writes: a policy criticises the steps, then says whether the solution is right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from search.contract import checked_reply
from search.errors import ConfigError, VerifierError
from search.ports import Likelihood, Policy, Renders, Writes, ability
from search.seeds import seed_of
from search.steps import Pattern
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Verdict
from search.waves import gather
from verifiers.combine import Composed
from verifiers.form import filled, labelled

# the prompt that the published models were trained with
INSTRUCTION = """You are given a math problem and a proposed step-by-step solution:

[Math Problem]

{question}

[Solution]

{solution}

Review and critique each step in the proposed solution to determine whether each step is correct. \
If the solution is incomplete, only verify the provided steps."""
VERDICT = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*(correct|incorrect)\s*\}?\s*\}", re.IGNORECASE)


class Critique(NamedTuple):
    """One critique: of which steps it says they are right, if it was asked, and how likely it finds the solution."""

    steps: tuple[bool, ...]
    right: float  # in [0, 1]


@dataclass(frozen=True)
class Generative(Composed):
    """ThinkPRM (Khalifa et al. 2025, "Process Reward Models That Think", arXiv 2504.16828), through any policy.

    The policy gets the problem and the numbered steps as a chat, begins its answer as it was trained to, and writes
    until it would say whether the solution is correct. Then that question is put, and the value is
    p(yes) / (p(yes) + p(no)), p the geometric mean over a label's tokens, averaged over `n` critiques. A policy without
    likelihoods is asked to go on, and must answer one of the two labels.

    With `steps`, each step's value is the share of critiques that call it correct. A critique ends with the first step
    it calls incorrect, as the published models do, or has a verdict on every step: what follows an incorrect step is
    incorrect too. Any other critique is malformed and does not count; where none is left, there is an error.

    The critique is put before the policy a second time as text, cut where the question would begin. One pass for each
    prefix; what the policy reads and writes is `read`, since a budget of generated tokens is the search's own.

    Attributes:
        policy: writes; needs a chat template and `search.ports.Writes`.
        instruction: the user's message; "{question}" and "{solution}" stand for the problem and its numbered steps.
        label: put before a step that does not begin with it; "{number}" stands for its number.
        begin: how the answer begins.
        decision: what is put after the critique.
        good, bad: the two answers.
        steps: whether verdicts on steps are read from the critique.
        n: critiques, at least 1.
        temperature, max_tokens: of a critique.
        seed: of the critiques, in [0, 2**63); the same prefix gets the same ones.

    Raises:
        ConfigError: when built, if a setting is out of range; from `score`, if the policy lacks an ability.
        VerifierError: from `score`, if a prefix has no question or step, or no critique can be read.
    """

    policy: Policy
    instruction: str = INSTRUCTION
    label: str = "Step {number}: "
    begin: str = "\nLet's verify step by step:"
    decision: str = "\nIs the solution correct? "
    good: str = "yes"
    bad: str = "no"
    steps: bool = True
    n: int = 1
    temperature: float = 0.7
    max_tokens: int = 4096
    seed: int = 0

    _holds: ClassVar[tuple[str, ...]] = ("policy",)

    def __post_init__(self) -> None:
        if not ("{question}" in self.instruction and "{solution}" in self.instruction):
            raise ConfigError("instruction", self.instruction, "it needs {question} and {solution}")
        if self.n < 1:
            raise ConfigError("n", self.n, "give a number of at least 1")
        if not self.decision.strip() or not self.good.strip() or not self.bad.strip():
            raise ConfigError("decision", self.decision, "decision, good and bad need some text")
        if not 0 <= self.seed < 2**63:
            raise ConfigError("seed", self.seed, "give a whole number from 0 to 2**63 - 1")
        self._sampling(0)

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        return await gather(map(self._verdict, prefixes))

    async def _verdict(self, prefix: Prefix) -> Verdict:
        texts = [step.text.strip() for step in prefix.reply]
        steps = [text for text in texts if text]
        if not steps or not prefix.question:
            raise VerifierError(f"there is no {'step' if prefix.question else 'question'} to criticise")
        asked, sampling = self._asked(prefix.question, steps), self._sampling(len(steps))
        seeds = tuple(seed_of(self.seed, asked, sampling, i) for i in range(self.n))
        request = Request(asked, sampling, seeds)
        (reply,) = await self.policy.sample([request])
        cost = _read(checked_reply(request, reply)) + Cost(passes=1)
        found = await gather(
            self._critique(asked, segment.text, segment.finish, len(steps)) for segment in reply.segments
        )
        cost = sum((spent for _, spent in found), cost)
        critiques = [critique for critique, _ in found if critique is not None]
        if not critiques:
            said = reply.segments[0].text[-80:]
            raise VerifierError(f"none of {self.n} critiques of {len(steps)} steps can be read: ...{said!r}")
        value = math.fsum(critique.right for critique in critiques) / len(critiques)
        if not self.steps:
            return Verdict(value, (), cost)
        shares = [sum(c.steps[i] for c in critiques) / len(critiques) for i in range(len(steps))]
        if not texts[0]:
            raise VerifierError("the first step has no text that could be criticised")
        at = -1
        values = [shares[at := at + bool(text)] for text in texts]  # a step without text is worth what was before it
        return Verdict(value, tuple(values), cost)

    def _sampling(self, steps: int) -> Sampling:
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, until=Pattern(self._end(steps)))

    def _end(self, steps: int) -> str:
        """What ends a critique: the question, the end of thinking, or a step that does not exist."""
        ends = [re.escape(self.decision.strip()), "</think>"]
        if "{number}" in self.label:
            ends.append(re.escape(filled(self.label, number=str(steps + 1)).strip()) + r"(?!\d)")
        return "|".join(ends)

    def _ability(self, wanted: type[Any], why: str) -> Any:
        if (found := ability(self.policy, wanted)) is None:
            raise ConfigError("policy", self.policy, f"{why} (search.ports.{wanted.__name__})")
        return found

    def _asked(self, question: str, steps: Sequence[str]) -> Prefix:
        solution = "\n".join(labelled(self.label, number, step) for number, step in enumerate(steps, 1))
        content = filled(self.instruction, question=question, solution=solution)
        prompt = self._ability(Renders, "it has no chat template").prompt([{"role": "user", "content": content}])
        return self._written(Prefix(prompt, question=question), self.begin) if self.begin else Prefix(prompt)

    def _written(self, prefix: Prefix, text: str) -> Prefix:
        segment = self._ability(Writes, "others cannot write into its answer").write(text)
        return prefix + replace(segment, by="environment")

    async def _critique(self, asked: Prefix, text: str, finish: Finish, steps: int) -> tuple[Critique | None, Cost]:
        """What a critique says, None if it cannot be read; and what asking for its decision took."""
        cut = re.search(self._end(steps), text)
        text = text[: cut.start()] if cut else text
        verdicts = tuple(found.lower() == "correct" for found in VERDICT.findall(text))
        verdicts = verdicts[: verdicts.index(False) + 1] if False in verdicts else verdicts
        whole = len(verdicts) == steps or (len(verdicts) < steps and False in verdicts)
        if finish is Finish.LENGTH or (self.steps and not whole):
            return None, Cost()
        right, cost = await self._decided(self._written(asked, text + self.decision))
        return None if right is None else Critique((*verdicts, *[False] * (steps - len(verdicts))), right), cost

    async def _decided(self, asked: Prefix) -> tuple[float | None, Cost]:
        likelihood = ability(self.policy, Likelihood)
        if likelihood is None:
            sampling = Sampling(temperature=0, max_tokens=16, until=Pattern(r"\w+\W"))
            request = Request(asked, sampling, (seed_of(self.seed, asked, sampling, 0),))
            (reply,) = await self.policy.sample([request])
            word = re.search(r"\w+", checked_reply(request, reply).segments[0].text)
            answer = word[0].lower() if word else ""
            known = {self.good.strip().lower(): 1.0, self.bad.strip().lower(): 0.0}
            return known.get(answer), _read(reply)
        write = self._ability(Writes, "others cannot write into its answer").write
        labels = [write(self.good), write(self.bad)]
        good, bad = await likelihood.logprobs([asked, asked], labels)
        gap = math.fsum(bad) / len(bad) - math.fsum(good) / len(good)
        read = sum(len(asked.tokens) + len(label.tokens) for label in labels)  # at most: what is cached is not told
        return 1 / (1 + math.exp(gap)) if gap < 700 else 0.0, Cost(read=read)


def _read(reply: Reply) -> Cost:
    """What a critic took, as a verifier's cost."""
    cost = reply.cost
    return Cost(read=cost.prefilled + cost.generated, reused=cost.reused, seconds=cost.seconds)
