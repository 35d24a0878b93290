"""OpenAI's completions and chat over a policy: bodies in, bodies out, no sockets.

What is served beyond the plain API, in vLLM's dialect: prompts as token ids, `return_token_ids`, `top_k`,
`return_tokens_as_token_ids`, `include_stop_str_in_output`, `continue_final_message`, `stop_reason`, /tokenize and
/detokenize. Log-probabilities of drawn tokens are those of the distribution sampled from; `top_logprobs`, given for
one token at a time, are at temperature 1. Draw i of a request with a seed has seed + i. A stream is drawn whole and
then sent token by token.
"""

from __future__ import annotations

import hmac
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.wording import Used, Words, as_events
from search.errors import ConfigError, TreewiseError
from search.ports import Enumerates, Likelihood, Policy, Reads, Renders, Writes, ability
from search.types import Prefix, Reply, Request, Sampling, Segment


class Wrong(Exception):
    """A request that cannot be served: `status` is HTTP's."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request as it came: method, path, headers (names in lower case) and body."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    """A status, and one body or the events of a stream."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    events: AsyncIterator[Mapping[str, Any]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stop:
    """A draw ends once it holds one of `strings`."""

    strings: tuple[str, ...]

    def ends(self, text: str, tokens: int) -> bool:
        return any(string in text for string in self.strings)


def opaque(ids: tuple[int, ...], text: str) -> Prefix:
    """A prefix of which only the whole is known."""
    return Prefix(Segment(ids, text))


@dataclass(frozen=True)
class Service:
    """A policy, served under a name.

    Attributes:
        policy: entered, and able to write and to read (`search.ports`).
        model: its name.
        key: what a request has to show, or "".
        prefix: finds prompt and answer in a prompt of tokens, for policies to which they are different things.
        context: tokens in prompt and answer, stated and kept, or None.
    """

    policy: Policy
    model: str
    key: str = field(default="", repr=False)
    prefix: Callable[[tuple[int, ...], str], Prefix] = opaque
    context: int | None = None

    async def __call__(self, asked: Asked) -> Answer:
        """The answer to any request; errors are answers too."""
        try:
            if self.key and not hmac.compare_digest(asked.headers.get("authorization", ""), f"Bearer {self.key}"):
                raise Wrong("the key is missing or wrong", 401)
            return await self._route(asked)
        except Wrong as wrong:
            return failed(wrong.status, str(wrong))
        except TreewiseError as error:
            return failed(400 if isinstance(error, ConfigError) else 500, str(error))

    async def _route(self, asked: Asked) -> Answer:
        if (asked.method, asked.path) == ("GET", "/v1/models"):
            return Answer(200, {"object": "list", "data": [{"id": self.model, "max_model_len": self.context}]})
        handlers = {
            "/v1/completions": self._complete,
            "/v1/chat/completions": self._chat,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
        }
        if asked.path not in handlers:
            raise Wrong(f"there is no {asked.path}", 404)
        if asked.method != "POST":
            raise Wrong("POST it", 405)
        try:
            body = json.loads(asked.body)
        except ValueError:
            raise Wrong("the body is not JSON") from None
        if not isinstance(body, dict):
            raise Wrong("the body is not an object")
        if body.get("model", self.model) != self.model:
            raise Wrong(f"there is no model {body['model']!r}", 404)
        try:
            return await handlers[asked.path](body)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise Wrong(f"a field is missing or of the wrong kind ({type(error).__name__}: {error})") from error

    async def _tokenize(self, body: Mapping[str, Any]) -> Answer:
        if "messages" in body:
            segment = self._prompt(body["messages"])
        else:
            segment = self._able(Writes).write(str(body["prompt"]))
        return Answer(200, {"tokens": list(segment.tokens), "count": len(segment.tokens)})

    async def _detokenize(self, body: Mapping[str, Any]) -> Answer:
        return Answer(200, {"prompt": self._able(Reads).text(tuple(body["tokens"]))})

    async def _complete(self, body: Mapping[str, Any]) -> Answer:
        prompt = body["prompt"]
        segment = self._able(Writes).write(prompt) if isinstance(prompt, str) else Segment(tuple(prompt), "")
        if not segment.tokens or not all(isinstance(token, int) for token in segment.tokens):
            raise Wrong("the prompt is one text or one list of token ids, not empty")
        text = segment.text or self._able(Reads).text(segment.tokens)
        prefix = self.prefix(segment.tokens, text)
        reply = await self._sample(prefix, body)
        echo = await self._echo(segment.tokens) if body.get("echo") else None
        listed = await self._listed(prefix, body) if _whole(body.get("logprobs") or 0) > 1 else None
        return self._answer(body, prefix, reply, chat=False, echo=echo, listed=listed)

    async def _chat(self, body: Mapping[str, Any]) -> Answer:
        messages = body["messages"]
        prefill = messages[-1]["role"] == "assistant" and bool(body.get("continue_final_message"))
        prefix = Prefix(self._prompt(messages[:-1] if prefill else messages))
        if prefill and messages[-1]["content"]:
            prefix += self._able(Writes).write(messages[-1]["content"])
        return self._answer(body, prefix, await self._sample(prefix, body), chat=True)

    def _prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        prompt: Segment = self._able(Renders).prompt([{"role": m["role"], "content": m["content"]} for m in messages])
        return prompt

    def _able(self, wanted: type[Any]) -> Any:
        if (found := ability(self.policy, wanted)) is None:
            raise Wrong(f"this model has no such ability (search.ports.{wanted.__name__})", 501)
        return found

    async def _sample(self, prefix: Prefix, body: Mapping[str, Any]) -> Reply:
        stop = body.get("stop") or ()
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        limit = _whole(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        if self.context is not None and len(prefix.tokens) + limit > self.context:
            raise Wrong(f"{len(prefix.tokens)} + {limit} tokens do not fit the context of {self.context}")
        sampling = Sampling(
            temperature=float(1.0 if body.get("temperature") is None else body["temperature"]),
            top_k=max(_whole(body.get("top_k") or 0), 0),
            top_p=float(body.get("top_p") or 1.0),
            max_tokens=limit,
            until=Stop(stop) if stop else None,
        )
        seed = random.getrandbits(62) if body.get("seed") is None else _whole(body["seed"])
        seeds = tuple((seed + i) % 2**63 for i in range(_whole(body.get("n") or 1)))
        (reply,) = await self.policy.sample([Request(prefix, sampling, seeds)])
        return reply

    async def _echo(self, ids: tuple[int, ...]) -> list[float | None]:
        """Log-probabilities of a prompt's tokens; the first has none."""
        prefix, rest = Prefix(Segment(ids[:1], "")), Segment(ids[1:], "")
        (found,) = await self._able(Likelihood).logprobs([prefix], [rest])
        return [None, *found]

    async def _listed(self, prefix: Prefix, body: Mapping[str, Any]) -> dict[str, float]:
        """The likeliest first tokens."""
        if _whole(body.get("max_tokens") or 16) != 1:
            raise Wrong("more than one log-probability per token is given with max_tokens=1 alone")
        top = min(_whole(body["logprobs"]), self._able(Enumerates).vocabulary_size())
        (reply,) = await self.policy.sample([Request(prefix, Sampling(max_tokens=1), (), top=top)])
        ids = bool(body.get("return_tokens_as_token_ids"))
        return {f"token_id:{s.tokens[0]}" if ids else s.text: s.logprobs[0] for s in reply.segments}

    def _answer(
        self,
        body: Mapping[str, Any],
        prefix: Prefix,
        reply: Reply,
        chat: bool,
        echo: list[float | None] | None = None,
        listed: dict[str, float] | None = None,
    ) -> Answer:
        words = [Words(i, segment, self._texts(segment), body) for i, segment in enumerate(reply.segments)]
        about = {
            "id": uuid.uuid4().hex,
            "created": int(time.time()),
            "model": self.model,
            "object": "chat.completion" if chat else "text_completion",
        }
        used = Used(len(prefix.tokens), reply.cost.reused)
        if body.get("stream"):
            return Answer(200, events=as_events(about, words, used, body, chat))
        choices = [word.choice(0, len(word.segment.tokens), chat, "message", echo, listed) for word in words]
        generated = sum(len(segment.tokens) for segment in reply.segments)
        return Answer(200, {**about, "choices": choices, "usage": used.after(generated)})

    def _texts(self, segment: Segment) -> list[str]:
        """What each token adds to the text; a character that is not complete is held back."""
        read, shown, texts = self._able(Reads).text, "", []
        for count in range(1, len(segment.tokens) + 1):
            now = read(segment.tokens[:count])
            whole = now if count == len(segment.tokens) else now.rstrip("\ufffd")
            texts.append(whole.removeprefix(shown))
            shown = whole
        return texts


def failed(status: int, message: str) -> Answer:
    """An error, as the API has it."""
    return Answer(status, {"error": {"message": message, "code": status}})


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return int(value is True) if isinstance(value, bool) else int(str(value))
    return value
