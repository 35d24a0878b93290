"""The policy: requests of a search become requests of a server, one for each draw where draws have seeds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from policies.calls import all_or_none
from policies.http.abilities import EVERY, Abilities
from policies.http.client import Client
from policies.http.connection import Connection
from policies.http.drift import Drift
from policies.http.opening import connect
from policies.http.secret import Secret
from policies.http.throttle import Throttle
from search.errors import ConfigError, PolicyError
from search.types import Prefix, Reply, Request, Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, hosted ones).

    What the server can do is found by asking when the connection is made (`abilities`), and stated in the fingerprint
    and the log. Where it takes and gives token ids, prefixes are ids and nothing is tokenised twice; where text is all
    there is, `drift` counts how often a prefix was read as other tokens than were drawn. A search that needs what is
    missing is refused before its first token.

    Draws have seeds where the server honours them, one request each; else (or with `seeded=False`, for speed) one
    request asks for all draws of a node, or of a search's wave where a request may have several prompts; a run can
    then be repeated from its journal only. A step ends where its boundary says: found by a limit of tokens,
    by stop strings where the server says which it met, or in the stream, which is then closed; what the server draws
    between that moment and its taking notice is not seen, and not counted. Lost attempts are: their requests, and
    what tokens had arrived. They come on top of what a strict budget has granted.

    Log-probabilities are the server's: of the distribution sampled from, or at temperature 1 (`abilities.logprobs`
    says which). Attention: a server with a parser that takes the thinking out of answers hides tokens; start it
    without one.

    Attributes:
        base_url: with the version, as "http://localhost:8000/v1"; no key and no password in it.
        model: its name there; None takes the only one.
        key_env: environment variable that holds the key; None for none. The key is never written anywhere.
        tokenizer: folder with the model's tokenizer and template; None asks the server's own, where it has one.
        route: "auto" takes the best of "tokens", "text" (completions) and "chat".
        template: whether prompts are chats rendered by a template; False joins the contents, for base models.
        seeded: whether draws have seeds where they can. False needs several times fewer requests.
        weighed: whether draws have log-probabilities where they can; False saves the server's time, and searches that
            need them are refused.
        max_context: tokens in prompt and answer; None takes what the server says, or no limit. A draw that reaches it
            ends as `Finish.LENGTH`.
        concurrency: requests in flight at most; begins at `start`, grows while all goes well, halves when it does not.
        attempts: per draw, at least 1.
        timeout: seconds without a sign of the server.
        patience: seconds for all attempts of a draw.
        pause: seconds before the second attempt, at most; doubles with each.
        extra: fields added to every request, such as `chat_template_kwargs`.
        transport: of httpx, in place of the network; for tests.

    Raises:
        ConfigError: when built, if a number is out of range or the address holds a secret; on entry, if no server
            answers, or it cannot do what the settings ask.
    """

    base_url: str = "http://localhost:8000/v1"
    model: str | None = None
    key_env: str | None = None
    tokenizer: str | None = None
    route: Literal["auto", "tokens", "text", "chat"] = "auto"
    template: bool = True
    seeded: bool = True
    weighed: bool = True
    max_context: int | None = None
    concurrency: int = 64
    start: int = 8
    attempts: int = 6
    timeout: float = 120.0
    patience: float = 900.0
    pause: float = 0.5
    extra: Mapping[str, Any] = field(default_factory=dict)
    transport: Any = field(default=None, repr=False, compare=False)
    _open: list[Connection] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_address(self.base_url)
        for name in ("concurrency", "start", "attempts"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "give a number of at least 1")
        if self.max_context is not None and self.max_context < 1:
            raise ConfigError("max_context", self.max_context, "give a number of at least 1, or null")
        for name in ("timeout", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "give a number above 0")
        if not self.pause >= 0:
            raise ConfigError("pause", self.pause, "give a number of at least 0")
        if self.route not in ("auto", "tokens", "text", "chat"):
            raise ConfigError("route", self.route, "choose from auto, tokens, text, chat")
        if secret := [name for name in self.extra if "key" in name.lower() or "auth" in name.lower()]:
            raise ConfigError(f"extra.{secret[0]}", "***", "keys come from the environment alone: name one in key_env")

    async def __aenter__(self) -> Self:
        if self._open:
            raise ConfigError("base_url", self.base_url, "it is connected already: enter it once")
        client = Client(
            self.base_url,
            Secret(self.key_env),
            Throttle(self.start, self.concurrency),
            attempts=self.attempts,
            timeout=self.timeout,
            patience=self.patience,
            pause=self.pause,
            transport=self.transport,
        )
        try:
            connection = await connect(
                client, self.model, self.route, self.tokenizer, self.template, self.extra, self.max_context, self.seeded
            )
        except BaseException:
            await client.close()
            raise
        self._open.append(connection if self.weighed else connection.unweighed())
        log.info("%s, %s: %s", self.base_url, connection.asking.model, self.abilities)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._open.pop()
        if connection.drift.drifted:
            log.warning("%s: %s", self.base_url, connection.drift)
        await connection.client.close()

    @property
    def connection(self) -> Connection:
        """The open connection."""
        if not self._open:
            raise PolicyError(f"{self.base_url} is not connected: use it inside `async with`")
        return self._open[0]

    @property
    def abilities(self) -> Abilities:
        """What the server was seen to do."""
        return self.connection.abilities

    @property
    def drift(self) -> Drift:
        """How often prefixes sent as text were read as other tokens."""
        return self.connection.drift

    @property
    def lacks(self) -> Mapping[str, str]:
        """What it cannot do, and why; nothing is known before the connection is made."""
        return self.abilities.lacks() if self._open else {}

    @property
    def fingerprint(self) -> str:
        """Of the server's address, the model and its settings, and what the server can do."""
        found = self.connection
        return f"http:{found.asking.model} at {self.base_url} [{found.abilities}; extra {dict(self.extra)}]"

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in order.

        Raises:
            PolicyError: the server refuses, or failed as often as it may.
        """
        return await all_or_none(map(self.connection.sample, requests))

    async def logprobs(
        self, prefixes: Sequence[Prefix], continuations: Sequence[Segment]
    ) -> Sequence[tuple[float, ...]]:
        """Nats at temperature 1, one per token of each continuation."""
        pairs = zip(prefixes, continuations, strict=True)
        return await all_or_none(self.connection.likelihood(p, c) for p, c in pairs)

    def vocabulary_size(self) -> int:
        """How many tokens there are, at most; raises ConfigError where the server lists only the likeliest."""
        if (top := self.abilities.top) < EVERY:
            raise ConfigError("top", None, f"the server lists the {top} likeliest tokens, not all: ask for no more")
        return self.abilities.vocabulary or top

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """Chat messages as the server's prompt; in a chat without ids, their JSON."""
        return self.connection.rendering.prompt(messages)

    def write(self, text: str) -> Segment:
        """`text` as the model's tokens, where it has any."""
        return replace(self.connection.rendering.write(text), text=text)

    def turn(self, text: str) -> Segment:
        """The user's next turn, by the model's template."""
        return self.connection.rendering.turn(text)

    def text(self, tokens: Sequence[int]) -> str:
        """What ids decode to; end-of-sequence tokens left out."""
        return self.connection.rendering.text(tokens)


def _check_address(address: str) -> None:
    """Refuses what is no address, and one that would carry a secret into logs and files, without repeating it."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise ConfigError("base_url", "***", "it is not an address: give http://HOST:PORT/v1") from None
    if url.userinfo or url.query or url.fragment:
        raise ConfigError("base_url", "***", "give it without user, password and query: keys come from key_env")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError("base_url", address, "it is not an address: give http://HOST:PORT/v1")
