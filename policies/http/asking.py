"""Bodies of requests, by route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from policies.http.abilities import Route
from policies.http.rendering import messages
from policies.http.writing import Plan
from search.types import Prefix, Sampling

PREFILLS: Mapping[str, Mapping[str, Any]] = {
    "continue": {"continue_final_message": True, "add_generation_prompt": False},
    "prefix": {},
    "plain": {},
}
PATHS: Mapping[Route, str] = {"tokens": "completions", "text": "completions", "chat": "chat/completions"}
Prompt = str | Sequence[int] | list[list[int]] | list[dict[str, str]]


@dataclass(frozen=True)
class Asking:
    """How one server is asked.

    Attributes:
        prefill: see `Abilities`.
        logprobs: whether log-probabilities are asked for.
        limit: what the server calls the limit of tokens.
        extra: fields added to every request.
    """

    model: str
    route: Route
    prefill: str = "plain"
    logprobs: bool = True
    limit: str = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return PATHS[self.route]

    def prompt(self, prefix: Prefix) -> Prompt:
        """What of a request is the prefix."""
        if self.route == "tokens":
            return list(prefix.tokens)
        if self.route == "text":
            return "".join(segment.text for segment in (prefix.prompt, *prefix.steps))
        return messages(prefix)

    def body(self, prompt: Prompt, **fields: Any) -> dict[str, Any]:
        """A request for what follows `prompt`."""
        said: dict[str, Any] = {"model": self.model, **fields}
        said[self.limit] = said.pop("max_tokens")
        if self.route == "chat":
            said["messages"] = prompt
            chat = cast(list[dict[str, str]], prompt)
            if chat and chat[-1]["role"] == "assistant":
                said |= PREFILLS.get(self.prefill, {})
                if self.prefill == "prefix":
                    said["messages"] = [*chat[:-1], {**chat[-1], "prefix": True}]
        else:
            said["prompt"] = prompt
        if self.logprobs and "logprobs" not in fields:
            said |= {"logprobs": True} if self.route == "chat" else {"logprobs": 1}
        if self.route == "tokens":
            said["return_token_ids"] = True
        return said | dict(self.extra)

    def draw(self, prompt: Prompt, sampling: Sampling, plan: Plan, seed: int | None, n: int) -> dict[str, Any]:
        """A request for `n` draws."""
        fields: dict[str, Any] = {"max_tokens": plan.limit, "temperature": sampling.temperature, "n": n}
        if sampling.top_p < 1:
            fields["top_p"] = sampling.top_p
        if sampling.top_k:
            fields["top_k"] = sampling.top_k
        if seed is not None:
            fields["seed"] = seed
        if plan.stop:
            fields |= {"stop": list(plan.stop), "include_stop_str_in_output": True}
        if plan.stream:
            fields["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
        return self.body(prompt, **fields)
