"""Models that think before they answer: two phases, each with a budget and a splitter of its own.

A search notices nothing: it draws steps, and they end where the phase they are in says so. When the thinking has used
up its budget, the next step after it is not drawn but written: the closing mark, by the environment, free of cost. All
draws of that node are this one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import TracebackType
from typing import Any, Self

from search.errors import ConfigError, PolicyError
from search.ports import Describes, KeepsPrefixes, Policy, Reads, Renders, Writes, ability, lacking
from search.types import Boundary, Cost, Finish, Prefix, Reply, Request, Sampling, Segment, WeighingBoundary


@dataclass(frozen=True)
class Section:
    """A step of the thinking ends where `until` says so (None: nowhere), with `close`, or when the budget is used up.

    Attributes:
        most: tokens left in the section, or None.
    """

    until: Boundary | None
    close: str
    most: int | None

    def ends(self, text: str, tokens: int) -> bool:
        full = self.most is not None and tokens >= self.most
        return full or self.close in text or (self.until is not None and self.until.ends(text, tokens))


@dataclass(frozen=True)
class WeighingSection(Section):
    """The same where `until` looks at log-probabilities."""

    def ends_by(self, text: str, logprobs: Sequence[float]) -> bool:
        assert isinstance(self.until, WeighingBoundary)
        return replace(self, until=None).ends(text, len(logprobs)) or self.until.ends_by(text, logprobs)

    def ends(self, text: str, tokens: int) -> bool:
        return Section(None, self.close, self.most).ends(text, tokens)


@dataclass(frozen=True)
class Phased:
    """A policy whose answers begin with a section of thinking, which is closed at the latest when its budget ends.

    A step ends at the closing mark, and another begins: no step lies in both phases. A completion drawn at one go
    thinks, has its section closed if it must be, and answers; the forced mark is then within the segment, with
    log-probability 0 (it could not have been otherwise), within the limit of the draw, and counted as generated. The
    answer is a draw of its own, its seed made from that of the thinking.

    Attributes:
        policy: what thinks; it has to take text (`search.ports.Writes`), so that the section can be opened and closed.
        open: the mark that opens the section. Prompts that do not end with it get it, on a line of its own.
        close: the mark that closes it, looked for in the text.
        closing: what is written when the section is closed by force; has `close` in it.
        think_tokens: the section's budget, at least 1; None for no limit but those of the draws.
        think_until: where a step of the thinking ends; None takes the search's own steps.
        answer_tokens: of the answer, at least 1; None for no limit. An answer that reaches it is cut, as by any limit.
        answer_until: where a step of the answer ends; None takes the search's own steps.
    """

    policy: Policy
    open: str = "<think>"
    close: str = "</think>"
    closing: str = "\n</think>\n\n"
    think_tokens: int | None = 1024
    think_until: Boundary | None = None
    answer_tokens: int | None = None
    answer_until: Boundary | None = None

    def __post_init__(self) -> None:
        for name in ("open", "close"):
            if not getattr(self, name):
                raise ConfigError(name, getattr(self, name), "give the mark, it cannot be empty")
        if self.close not in self.closing:
            raise ConfigError("closing", self.closing, f"give a text with {self.close!r} in it")
        for name in ("think_tokens", "answer_tokens"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ConfigError(name, count, "give a number of at least 1, or null")

    async def __aenter__(self) -> Self:
        if hasattr(self.policy, "__aenter__"):
            await self.policy.__aenter__()
        self._able(Writes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self.policy, "__aexit__"):
            await self.policy.__aexit__(kind, error, trace)

    @property
    def fingerprint(self) -> str:
        """Of the settings, and of what thinks."""
        settings = replace(self, policy=None)  # type: ignore[arg-type]
        return f"{settings!r} over {self._able(Describes).fingerprint}"

    @property
    def lacks(self) -> Mapping[str, str]:
        """What the policy behind lacks; it is asked for nothing that is not here."""
        absent = "the policy that thinks does not have it"
        names = ("logprobs", "continues")
        stated = {name: reason for name in names if (reason := lacking(self.policy, name)) is not None}
        ports = (Renders, Writes, Reads)
        return stated | {p.__name__: absent for p in ports if ability(self.policy, p) is None}

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """The chat as the policy renders it, the section opened."""
        return self._opened(self._able(Renders).prompt(messages))

    def turn(self, text: str) -> Segment:
        """The user's next turn, and a new section."""
        return self._opened(self._able(Writes).turn(text))

    def write(self, text: str) -> Segment:
        """As the policy writes it."""
        written: Segment = self._able(Writes).write(text)
        return written

    def text(self, tokens: Sequence[int]) -> str:
        """As the policy reads it."""
        return str(self._able(Reads).text(tokens))

    def retain(self, prefix: Prefix) -> None:
        """A hint, passed on."""
        if (keeper := ability(self.policy, KeepsPrefixes)) is not None:
            keeper.retain(prefix)

    def release(self, prefix: Prefix) -> None:
        """A hint, passed on."""
        if (keeper := ability(self.policy, KeepsPrefixes)) is not None:
            keeper.release(prefix)

    def boundary(self, prefix: Prefix, sampling: Sampling) -> Boundary | None:
        """Where a step after `prefix` ends, asked for with `sampling`."""
        if sampling.until is None:
            return None
        if self.close in prefix.text:
            return self.answer_until or sampling.until
        return self._section(self.think_until or sampling.until, self._left(prefix))

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in order."""
        return await asyncio.gather(*map(self._reply, requests))

    async def _reply(self, request: Request) -> Reply:
        if request.top:
            raise PolicyError("a policy that closes its thinking by force does not list next tokens")
        if self.close in request.prefix.text:
            return await self._answer(request)
        if request.sampling.until is None:
            return await self._to_the_end(request)
        if self._left(request.prefix) == 0:
            closed = replace(self.write(self.closing), by="environment")
            return Reply((closed,) * len(request.seeds), Cost(policy_calls=1))
        until = self.boundary(request.prefix, request.sampling)
        return await self._one(replace(request, sampling=replace(request.sampling, until=until)))

    async def _answer(self, request: Request) -> Reply:
        """A step of the answer, or all that is left of it."""
        sampling, limit = request.sampling, request.sampling.max_tokens
        if self.answer_tokens is not None:
            _, written = self._lengths(request.prefix)
            limit = min(limit, self.answer_tokens - written)
        if limit < 1:
            return Reply((Segment((), "", (), Finish.LENGTH),) * len(request.seeds), Cost(policy_calls=1))
        until = self.boundary(request.prefix, sampling)
        return await self._one(replace(request, sampling=replace(sampling, until=until, max_tokens=limit)))

    async def _to_the_end(self, request: Request) -> Reply:
        """What is left of the thinking, its end, and the answer, as one segment for each seed."""
        left = self._left(request.prefix)
        thinking = replace(request.sampling, until=Section(None, self.close, left))
        if left == 0:
            reply = Reply((Segment((), ""),) * len(request.seeds))
        else:
            reply = await self._one(replace(request, sampling=thinking))
        pairs = zip(request.seeds, reply.segments, strict=True)
        rest = await asyncio.gather(*(self._go_on(request, seed, thought) for seed, thought in pairs))
        cost = sum((each.cost for each in rest), reply.cost)
        return Reply(tuple(each.segments[0] for each in rest), cost)

    async def _go_on(self, request: Request, seed: int, thought: Segment) -> Reply:
        """The rest of one draw after its thinking: nothing, if that was its end."""
        if thought.finish is not Finish.STEP:
            return Reply((thought,))
        whole, forced = thought, 0
        if self.close not in thought.text:
            mark = self.write(self.closing)
            forced = len(mark.tokens)
            whole = self._joined(thought, replace(mark, logprobs=(0.0,) * forced))
        room = request.sampling.max_tokens - len(whole.tokens)
        if room < 1:  # the mark or the answer has no place in the draw
            cut = whole if room == 0 else thought
            paid = Cost(generated=forced if cut is whole else 0)
            return Reply((replace(cut, finish=Finish.LENGTH),), paid)
        sampling = replace(request.sampling, max_tokens=room)
        answer = await self._answer(Request(request.prefix + whole, sampling, (_answering(seed),)))
        joined = self._joined(whole, answer.segments[0])
        return Reply((joined,), answer.cost + Cost(generated=forced))

    async def _one(self, request: Request) -> Reply:
        (reply,) = await self.policy.sample([request])
        return reply

    def _joined(self, before: Segment, after: Segment) -> Segment:
        """Two segments as one that ends as the second does; an end without a word after the first is an end."""
        tokens = before.tokens + after.tokens
        reader = ability(self.policy, Reads)
        text = reader.text(tokens) if reader is not None and tokens else before.text + after.text
        finish = Finish.END if after.finish is Finish.EMPTY and text else after.finish
        return Segment(tokens, text, before.logprobs + after.logprobs, finish)

    def _section(self, until: Boundary | None, most: int | None) -> Section:
        kind = WeighingSection if isinstance(until, WeighingBoundary) else Section
        return kind(until, self.close, most)

    def _left(self, prefix: Prefix) -> int | None:
        """Tokens that the thinking may still take; None for any number."""
        if self.think_tokens is None:
            return None
        thought, _ = self._lengths(prefix)
        return max(self.think_tokens - thought, 0)

    def _lengths(self, prefix: Prefix) -> tuple[int, int]:
        """Tokens of the reply up to the step that closes the thinking, and after it."""
        lengths, text, phase = [0, 0], "", 0
        for step in prefix.reply:
            count = len(step.tokens) or len(step.logprobs)
            if step.text and not count:
                raise PolicyError("without token ids and log-probabilities nobody knows how long the thinking is")
            lengths[phase] += count
            text += step.text
            phase = int(self.close in text)
        return lengths[0], lengths[1]

    def _opened(self, prompt: Segment) -> Segment:
        if prompt.text.rstrip().endswith(self.open):
            return prompt
        mark = self.write(f"{self.open}\n")
        return replace(prompt, tokens=prompt.tokens + mark.tokens, text=prompt.text + mark.text)

    def _able(self, wanted: type[Any]) -> Any:
        if (found := ability(self.policy, wanted)) is None:
            raise ConfigError(
                "policy", self.policy, f"thinking cannot be closed without search.ports.{wanted.__name__}"
            )
        return found


def _answering(seed: int) -> int:
    """The seed of an answer, in [0, 2**63), by that of the draw it belongs to."""
    return int.from_bytes(blake2b(b"answer", digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little") >> 1
