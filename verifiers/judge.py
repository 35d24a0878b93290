"""A policy asked for a verdict: how likely it is to say that an answer is right."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from search.contract import checked_reply, one_each
from search.errors import ConfigError, VerifierError
from search.ports import Describes, Likelihood, Policy, Renders, Writes, ability
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Verdict
from verifiers.opens import Opens

QUESTION = """{question}

A proposed answer, complete or as far as it goes:

{answer}

Is everything in it right so far? Reply with one word, Yes or No."""


@dataclass(frozen=True)
class Judge(Opens):
    """Value: P(right) / (P(right) + P(wrong)) of the verdict that follows the question put to a policy.

    By "probability" it is computed: the two verdicts' log-probabilities at temperature 1, which takes a policy that
    takes text and gives log-probabilities (`search.ports.Writes`, `Likelihood`), and a judge that does not reason
    before its verdict. By "votes" it is the share of right among `n` sampled verdicts (Zheng et al. 2023,
    arXiv:2306.05685; with reasoning first as the generative verifiers of Zhang et al. 2024, arXiv:2408.15240). The same
    prefix gets the same votes. One value per prefix, none for steps.

    A verdict is read strictly: where `verdict` matches in the text, its group 1 has to be `right` or `wrong`; no match,
    several matches that disagree, another word or a vote cut by the token limit are unparsable.

    Cost: one pass for each question (probability) or vote; what the judge reads and writes is `read`, since a budget of
    generated tokens is the search's own.

    Attributes:
        policy: the judge.
        template: the user's message; {question} and {answer} are replaced. It should name both verdicts.
        right, wrong: the verdicts, as the judge writes them at the beginning of its reply.
        how: "auto" takes the probability where the policy can give it, else votes; "probability"; "votes".
        n: votes, at least 1.
        verdict: a regular expression with one group, searched in the whole reply.
        unparsable: a vote that cannot be read: "raise", or "abstain" (the others decide).
        undecided: value in [0, 1] where all votes abstain.
        temperature, max_tokens: of votes.

    Raises:
        ConfigError: when built, if a setting is out of range; on entry, if the policy lacks what `how` needs.
        VerifierError: from `score`, for an unparsable vote under "raise".
    """

    policy: Policy
    template: str = QUESTION
    right: str = "Yes"
    wrong: str = "No"
    how: str = "auto"
    n: int = 5
    verdict: str = r"^\s*(\w+)[.!]?\s*$"
    unparsable: str = "raise"
    undecided: float = 0.5
    temperature: float = 1.0
    max_tokens: int = 16

    def __post_init__(self) -> None:
        for name in ("{question}", "{answer}"):
            if name not in self.template:
                raise ConfigError("template", self.template, f"put {name} into it")
        if not self.right or not self.wrong or self.right == self.wrong:
            raise ConfigError("right", self.right, f"give two different verdicts, right and wrong={self.wrong!r}")
        if self.how not in ("auto", "probability", "votes"):
            raise ConfigError("how", self.how, "give auto, probability or votes")
        if self.n < 1:
            raise ConfigError("n", self.n, "give a number of at least 1")
        if self.unparsable not in ("raise", "abstain"):
            raise ConfigError("unparsable", self.unparsable, "give raise or abstain")
        if not 0 <= self.undecided <= 1:
            raise ConfigError("undecided", self.undecided, "give a number in [0, 1]")
        try:
            groups = re.compile(self.verdict).groups
        except re.error as error:
            raise ConfigError("verdict", self.verdict, f"it is not a regular expression ({error})") from None
        if groups != 1:
            raise ConfigError("verdict", self.verdict, f"it has {groups} groups: give one, the verdict")
        Sampling(temperature=self.temperature, max_tokens=self.max_tokens)  # refuses wrong numbers at the door

    async def __aenter__(self) -> Self:
        if ability(self.policy, Renders) is None:
            raise ConfigError("policy", self.policy, "it has no chat template (search.ports.Renders)")
        if self.how == "probability" and not self._exact:
            raise ConfigError("how", self.how, "the policy gives no log-probabilities of text: take votes")
        return await super().__aenter__()

    def _parts(self) -> tuple[object, ...]:
        return (self.policy,)

    @property
    def fingerprint(self) -> str:
        described = ability(self.policy, Describes)
        settings = (
            *(self.template, self.right, self.wrong, self.how, self.n, self.verdict),
            *(self.unparsable, self.undecided, self.temperature, self.max_tokens),
        )
        return f"judge:{settings!r}:{described.fingerprint if described else repr(self.policy)}"

    @property
    def _exact(self) -> bool:
        able = ability(self.policy, Likelihood) is not None and ability(self.policy, Writes) is not None
        return able and self.how != "votes"

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        """One verdict per prefix, in order."""
        asked = [self._asked(prefix) for prefix in prefixes]
        return await (self._probabilities(asked) if self._exact else self._votes(asked, prefixes))

    def _asked(self, prefix: Prefix) -> Prefix:
        """The prompt that asks about `prefix`."""
        said = {"question": prefix.question or prefix.prompt.text, "answer": prefix.text}
        message = re.sub(r"\{(question|answer)\}", lambda found: said[found[1]], self.template)
        return Prefix(ability(self.policy, Renders).prompt([{"role": "user", "content": message}]), question=message)

    async def _probabilities(self, asked: Sequence[Prefix]) -> list[Verdict]:
        writer, likelihood = ability(self.policy, Writes), ability(self.policy, Likelihood)
        pair = [writer.write(text) for text in (self.right, self.wrong)]
        twice = [prefix for prefix in asked for _ in pair]
        found = one_each(len(twice), await likelihood.logprobs(twice, pair * len(asked)), VerifierError)
        sums = iter(map(math.fsum, found))
        written = sum(len(verdict.tokens) for verdict in pair)
        return [
            Verdict(self._share(*both), (), Cost(passes=1, read=len(prefix.tokens) + written))
            for prefix, both in zip(asked, zip(sums, sums, strict=True), strict=True)
        ]

    def _share(self, right: float, wrong: float) -> float:
        if max(right, wrong) == -math.inf:
            raise VerifierError(f"the judge gives neither {self.right!r} nor {self.wrong!r} any probability")
        return 1 / (1 + math.exp(min(wrong - right, 700)))

    async def _votes(self, asked: Sequence[Prefix], prefixes: Sequence[Prefix]) -> list[Verdict]:
        sampling = Sampling(temperature=self.temperature, max_tokens=self.max_tokens)
        requests = [
            Request(question, sampling, tuple(_seed(prefix.digest, vote) for vote in range(self.n)))
            for question, prefix in zip(asked, prefixes, strict=True)
        ]
        replies = one_each(len(requests), await self.policy.sample(requests), VerifierError)
        return [self._counted(checked_reply(request, reply)) for request, reply in zip(requests, replies, strict=True)]

    def _counted(self, reply: Reply) -> Verdict:
        votes = [self._read(segment.text, segment.finish) for segment in reply.segments]
        counted = [vote for vote in votes if vote is not None]
        value = sum(counted) / len(counted) if counted else self.undecided
        spent = reply.cost
        read = spent.prefilled + spent.generated
        return Verdict(value, (), Cost(passes=self.n, read=read, reused=spent.reused, seconds=spent.seconds))

    def _read(self, text: str, finish: Finish) -> bool | None:
        """Whether a vote says right; None for one that abstains."""
        said = set(re.findall(self.verdict, text)) if finish is not Finish.LENGTH else set()
        if len(said) == 1 and said <= {self.right, self.wrong}:
            return said == {self.right}
        if self.unparsable == "raise":
            cut = " (cut by max_tokens)" if finish is Finish.LENGTH else ""
            raise VerifierError(f"{text[-80:]!r}{cut} is no verdict: it has to say {self.right!r} or {self.wrong!r}")
        return None


def _seed(digest: bytes, vote: int) -> int:
    return int.from_bytes(blake2b(vote.to_bytes(8, "little"), digest_size=8, key=digest).digest(), "little") >> 1
