"""Draws in the words of OpenAI's API: choices of an answer, events of a stream, usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.types import Finish, Segment


@dataclass(frozen=True)
class Used:
    """Tokens of a prompt, and how many of them a cache held."""

    prompt: int
    cached: int

    def after(self, generated: int) -> dict[str, Any]:
        """The account after so many tokens."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": generated,
            "total_tokens": self.prompt + generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True)
class Words:
    """One draw: its segment, what each of its tokens adds to the text, and the body of the request."""

    index: int
    segment: Segment
    texts: list[str]
    body: Mapping[str, Any]

    @property
    def met(self) -> str | None:
        """The stop string that ended it: of those met, the one that begins first."""
        if self.segment.finish is not Finish.STEP:
            return None
        stop = self.body["stop"]
        found = [s for s in ([stop] if isinstance(stop, str) else stop) if s in self.segment.text]
        return min(found, key=self.segment.text.index)

    def choice(
        self,
        begin: int,
        end: int,
        chat: bool,
        kind: str,
        echo: list[float | None] | None = None,
        listed: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        """Tokens `begin` to `end` as a choice of an answer ("message") or of an event ("delta")."""
        last = end == len(self.segment.tokens)
        text = "".join(self.texts[begin:end])
        if last and (met := self.met) is not None and kind == "message":
            inside = self.segment.text.index(met) + len(met)
            text = self.segment.text[: inside if self.body.get("include_stop_str_in_output") else inside - len(met)]
        finish = ("length" if self.segment.finish is Finish.LENGTH else "stop") if last else None
        found: dict[str, Any] = {
            "index": self.index,
            "finish_reason": finish,
            "stop_reason": self.met if last else None,
        }
        found |= {kind: {"role": "assistant", "content": text}} if chat else {"text": text}
        tokens, logprobs = list(self.segment.tokens[begin:end]), list(self.segment.logprobs[begin:end])
        if self.body.get("return_token_ids"):
            found["token_ids"] = tokens
        if self.body.get("logprobs") not in (None, False):
            as_ids = self.body.get("return_tokens_as_token_ids")
            words = [f"token_id:{token}" for token in tokens] if as_ids else self.texts[begin:end]
            if chat:
                found["logprobs"] = {"content": [{"token": w, "logprob": x} for w, x in zip(words, logprobs)]}
            else:
                weighed = {"tokens": words, "token_logprobs": [*(echo or ()), *logprobs]}
                found["logprobs"] = weighed | ({"top_logprobs": [listed]} if listed else {})
        return found


async def as_events(
    about: Mapping[str, Any], words: list[Words], used: Used, body: Mapping[str, Any], chat: bool
) -> AsyncIterator[Mapping[str, Any]]:
    """A token each, the draws in turn; at the end what was used, if asked for."""
    options, generated = body.get("stream_options") or {}, 0
    about = {**about, "object": "chat.completion.chunk"} if chat else about
    for i in range(max(len(word.segment.tokens) for word in words)):
        for word in words:
            if i < len(word.segment.tokens):
                generated += 1
                event = {**about, "choices": [word.choice(i, i + 1, chat, "delta")]}
                yield event | ({"usage": used.after(generated)} if options.get("continuous_usage_stats") else {})
    if options.get("include_usage"):
        yield {**about, "choices": [], "usage": used.after(generated)}
