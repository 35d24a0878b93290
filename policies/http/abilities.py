"""What a server can do: stated once, when the connection is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EVERY = 1 << 17  # tokens: more than vocabularies have
Route = Literal["tokens", "text", "chat"]


@dataclass(frozen=True)
class Abilities:
    """Found by asking (`policies.http.probe`), or told.

    Attributes:
        route: completions of token ids, completions of text, or chat.
        prefill: how a chat goes on with an answer that has begun: "continue" (fields of vLLM and SGLang), "prefix" (a
            mark on the message), "plain" (by itself, as llama.cpp's), or "" if it does not. "plain" for completions.
        logprobs: "sampled" (of the distribution sampled from), "raw" (at temperature 1, whatever was drawn at), or "".
        seeds: bits of a seed, 63 or 31; 0 where equal seeds do not give equal draws.
        n: whether a request may ask for several draws.
        lists: whether a request may have several prompts; asked only where draws have no seeds.
        stop: whether it says which stop string it met, or leaves it in the text; a bare "stop" may mean two things.
        stream: whether answers come in pieces.
        top: how many of the likeliest next tokens it lists with their ids; EVERY for all of them.
        vocabulary: how many tokens there are, where it lists them all and says how many; else None.
        scores: whether it gives the log-probabilities of a prompt's tokens.
        context: tokens in prompt and answer together, or None where it does not say.
        reads: whether its ids can be turned into text.
    """

    route: Route
    prefill: str = "plain"
    logprobs: Literal["sampled", "raw", ""] = ""
    seeds: int = 0
    n: bool = False
    lists: bool = False
    stop: bool = False
    stream: bool = False
    top: int = 0
    vocabulary: int | None = None
    scores: bool = False
    context: int | None = None
    reads: bool = False

    @property
    def ids(self) -> bool:
        """Whether segments have token ids."""
        return self.route == "tokens"

    def lacks(self) -> Mapping[str, str]:
        """What a search may ask and not get, with the reason (`search.ports.Lacks`)."""
        found = {}
        if not self.top:
            found["Enumerates"] = (
                "the server does not list the likeliest next tokens by id, or which of them ends a text"
            )
        if not self.reads:
            found["Reads"] = "the server works with text, not with token ids"
        if not self.scores:
            found["Likelihood"] = "the server does not score prompts"
        if not self.logprobs:
            found["logprobs"] = "the server gives no log-probabilities of what it draws"
        if not self.prefill:
            found["continues"] = "the server begins a new answer where it should go on with one (no prefill)"
        return found

    def __str__(self) -> str:
        seeds = f"seeds of {self.seeds} bits" if self.seeds else "no seeds: draws cannot be repeated"
        shared = "yes, over several prompts" if self.lists else "yes" if self.n else "no"
        steps = "stop strings" if self.stop else "streaming" if self.stream else "cutting whole completions"
        lacking = ", ".join(sorted(self.lacks())) or "nothing"
        listed = "all" if self.top == EVERY else self.top
        logprobs = f"{self.logprobs or 'no'} log-probabilities"
        return (
            f"{self.route}, {logprobs}, {seeds}, steps by {steps}, n {shared}, lists {listed} tokens, lacks {lacking}"
        )
