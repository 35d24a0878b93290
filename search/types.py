"""Values that cross the seams: what is sampled, from what, at what cost. No behaviour, no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from itertools import chain as chained
from typing import Literal, Protocol, runtime_checkable

from search.errors import ConfigError


class Finish(StrEnum):
    """Why a segment ends. The four are different things and only STEP may be continued."""

    STEP = "step"  # a step boundary: more may follow
    END = "end"  # end of sequence after some text: the path is a complete answer
    EMPTY = "empty"  # end of sequence before any text: the path is complete and gained nothing
    LENGTH = "length"  # cut by a token limit: the path is dead, and not by the model's will


@runtime_checkable
class Boundary(Protocol):
    """Where a step ends; implementations are frozen, hashable and have a stable `repr` (see `search.steps`)."""

    def ends(self, text: str, tokens: int) -> bool:
        """Whether a step that so far holds `text`, made of `tokens` tokens, is complete."""
        ...


@runtime_checkable
class WeighingBoundary(Boundary, Protocol):
    """A boundary that looks at log-probabilities too; a policy asks this, and not `ends`, or refuses it."""

    def ends_by(self, text: str, logprobs: Sequence[float]) -> bool:
        """As `ends`, of a step with these log-probabilities (nats, one per token, of the distribution sampled from)."""
        ...


Author = Literal["policy", "environment", "user"]


@dataclass(frozen=True, slots=True)
class Segment:
    """What is appended to a prefix at once: the prompt, one step, or everything up to the end.

    Attributes:
        tokens: ids, the truth; () only from a policy that declares it has none.
        text: what the ids decode to, the end-of-sequence token left out.
        logprobs: nats, one per token, of the distribution sampled from (after temperature, top-k and top-p);
            () for prompts and whatever else was not sampled.
        finish: why it ends.
        by: who wrote it: the policy; its environment (a result put into the answer); the user (a turn of the chat).
    """

    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...] = ()
    finish: Finish = Finish.STEP
    by: Author = "policy"

    @property
    def mean_logprob(self) -> float:
        """Nats per token; 0 for a segment without log-probabilities."""
        return math.fsum(self.logprobs) / max(len(self.logprobs), 1)


def chain(digest: bytes, segment: Segment) -> bytes:
    """The digest (16 bytes) of a prefix with digest `digest` and `segment` appended."""
    content = (segment.tokens, segment.text) if segment.by == "policy" else (segment.tokens, segment.text, segment.by)
    return blake2b(repr(content).encode(), key=digest, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Prefix:
    """The path root -> node: a prompt and the steps taken so far. Two prefixes are equal when their content is.

    Attributes:
        prompt: the rendered prompt.
        steps: the segments after it, in order.
        question: what was asked, before any template; for verifiers that have a template of their own.
        digest: of the whole content, chained: H(digest of the parent, last segment).
    """

    prompt: Segment = field(compare=False)
    steps: tuple[Segment, ...] = field(default=(), compare=False)
    question: str = field(default="", compare=False)
    digest: bytes = b""

    def __post_init__(self) -> None:
        if not self.digest:
            digest = chain(b"", self.prompt)
            for step in self.steps:
                digest = chain(digest, step)
            object.__setattr__(self, "digest", digest)

    def __add__(self, step: Segment) -> Prefix:
        return Prefix(self.prompt, (*self.steps, step), self.question, chain(self.digest, step))

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and steps; exactly what was fed and sampled."""
        return tuple(chained.from_iterable(segment.tokens for segment in (self.prompt, *self.steps)))

    @property
    def reply(self) -> tuple[Segment, ...]:
        """The answer so far: the steps, or those since the user's latest turn."""
        turns = [i for i, step in enumerate(self.steps) if step.by == "user"]
        return self.steps[turns[-1] + 1 :] if turns else self.steps

    @property
    def judged(self) -> Prefix:
        """The prompt and the reply without the turns between: what a verifier reads."""
        return self if len(reply := self.reply) == len(self.steps) else Prefix(self.prompt, reply, self.question)

    @property
    def text(self) -> str:
        """Of the reply."""
        return "".join(step.text for step in self.reply)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a segment is drawn.

    Attributes:
        temperature: at least 0; 0 takes the likeliest token.
        top_k: only the k likeliest tokens; 0 means all.
        top_p: only the likeliest tokens whose probabilities add up to p; in (0, 1], 1 means all.
        max_tokens: tokens in the segment, at least 1; reaching it gives `Finish.LENGTH`.
        until: where the segment ends; None samples to the end of sequence.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 512
    until: Boundary | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError("temperature", self.temperature, "give a number of at least 0")
        if self.top_k < 0:
            raise ConfigError("top_k", self.top_k, "give 0 (all tokens) or a positive number")
        if not 0 < self.top_p <= 1:
            raise ConfigError("top_p", self.top_p, "give a number in (0, 1]")
        if self.max_tokens < 1:
            raise ConfigError("max_tokens", self.max_tokens, "give a number of at least 1")

    def to_the_end(self, max_tokens: int) -> Sampling:
        """The same distribution without a boundary."""
        return replace(self, until=None, max_tokens=max_tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """Sample one segment per seed after `prefix`; equal seeds give equal segments.

    With `top` above 0 nothing is drawn: asked are the likeliest next tokens (`search.ports.Enumerates`), likeliest
    first, each as a segment of one token, with its log-probability at temperature 1.
    """

    prefix: Prefix
    sampling: Sampling
    seeds: tuple[int, ...]  # 0 <= seed < 2**63; () with `top`
    top: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """Resources used. Adds component-wise."""

    generated: int = 0  # tokens sampled, kept or thrown away
    prefilled: int = 0  # prompt tokens computed
    reused: int = 0  # prompt tokens found in a prefix cache
    drafted: int = 0  # tokens proposed by a draft; accepted ones are in `generated`
    policy_calls: int = 0  # requests to a policy
    passes: int = 0  # sequences read by a verifier ("PRM passes")
    read: int = 0  # tokens computed by a verifier
    seconds: float = 0.0  # model time attributed to the calls
    speculated: int = 0  # tokens sampled before anybody asked, and then not asked for; not in `generated`

    def __add__(self, other: Cost) -> Cost:
        return Cost(  # field by field: this runs for every request
            self.generated + other.generated,
            self.prefilled + other.prefilled,
            self.reused + other.reused,
            self.drafted + other.drafted,
            self.policy_calls + other.policy_calls,
            self.passes + other.passes,
            self.read + other.read,
            self.seconds + other.seconds,
            self.speculated + other.speculated,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A policy's answer to one request."""

    segments: tuple[Segment, ...]  # in the order of the request's seeds
    cost: Cost = Cost()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's judgement of one prefix.

    Attributes:
        value: in [0, 1], higher is better, finite.
        steps: one value in [0, 1] per step of the prefix, where the verifier has them; else ().
        cost: of this judgement.
    """

    value: float
    steps: tuple[float, ...] = ()
    cost: Cost = Cost(passes=1)
