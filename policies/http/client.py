"""Requests to one server: throttled, tried again when it is busy or broken, every attempt on the account.

What is tried again: lost connections, timeouts, the statuses in `AGAIN`, and answers that are no JSON or break off. The
pause before attempt i is drawn from [0, pause * 2^i] seconds ("full jitter"), at most `LONGEST`, at least what the
server asks for (Retry-After). Jitter is the one thing here that is not seeded; no result depends on it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from policies.http.secret import Secret
from policies.http.throttle import Throttle
from search.errors import ConfigError, PolicyError
from search.types import Cost

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FULL = frozenset({429, 503, 529})  # the server has too much to do
LONGEST = 60.0  # seconds between two attempts, unless the server asks for more

T = TypeVar("T")
log = logging.getLogger(__name__)


class Refused(PolicyError):
    """The server will not answer this request, however often it is asked; `status` is HTTP's."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Exhausted(PolicyError):
    """No attempt more; `answered`: the last one was, with an error."""

    def __init__(self, message: str, answered: bool):
        super().__init__(message)
        self.answered = answered


class _Busy(Exception):
    """An attempt failed that may be made again; `full`: the server had too much to do; `after`: seconds to wait."""

    def __init__(self, reason: str, full: bool = False, after: float = 0.0):
        super().__init__(reason)
        self.full, self.after = full, after


@dataclass
class Tally:
    """What one draw cost, over all its attempts.

    Attributes:
        attempts: requests made.
        lost: work of attempts that failed or were thrown away, as far as the server let it be seen.
        seconds: in the hands of the server.
    """

    attempts: int = 0
    lost: Cost = field(default_factory=Cost)
    seconds: float = 0.0


class Client:
    """The connection to a server.

    Attributes:
        throttle: limits what is in flight.
        retried: attempts that had to be made again, so far.
    """

    def __init__(
        self,
        base_url: str,
        secret: Secret,
        throttle: Throttle,
        *,
        attempts: int,
        timeout: float,
        patience: float,
        pause: float,
        transport: Any = None,
    ):
        self.base_url, self.throttle, self._secret = base_url.rstrip("/"), throttle, secret
        self._attempts, self._patience, self._pause, self.retried = attempts, patience, pause, 0
        host = httpx.URL(base_url).host
        settings: dict[str, Any] = {
            "headers": {**secret.headers(), "User-Agent": "treewise"},
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
            "trust_env": host not in ("localhost", "127.0.0.1", "::1"),  # no proxy leads to this machine
            "transport": transport,
        }
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=throttle.most)
        self._http = httpx.AsyncClient(limits=limits, **settings)
        self._plain = httpx.Client(**settings)

    async def close(self) -> None:
        """Closes every connection."""
        await self._http.aclose()
        self._plain.close()

    def url(self, path: str) -> str:
        """`path` below the base; one that begins with "/" lies beside the API's version ("/tokenize")."""
        root = self.base_url.removesuffix("/v1") if path.startswith("/") else f"{self.base_url}/"
        return f"{root}{path}"

    async def attempt(self, once: Callable[[], Awaitable[T]], tally: Tally) -> T:
        """What `once` gives, tried again as long as it may be; the account is in `tally`.

        Raises:
            PolicyError: the last attempt failed, or the server refuses.
            ConfigError: the server does not accept the key.
        """
        began = time.monotonic()
        while True:
            tally.attempts += 1
            sent = time.monotonic()
            cuts = self.throttle.cuts
            try:
                async with self.throttle.slot() as cuts:
                    sent = time.monotonic()
                    result = await once()
                self.throttle.grow()
                return result
            except (_Busy, httpx.TransportError) as error:
                answered = isinstance(error, _Busy)
                busy = error if isinstance(error, _Busy) else _of_transport(error)
            finally:
                tally.seconds += time.monotonic() - sent
            if busy.full:
                self.throttle.shrink(cuts)
            wait = max(busy.after, random.uniform(0, min(LONGEST, self._pause * 2 ** (tally.attempts - 1))))
            if tally.attempts >= self._attempts or time.monotonic() - began + wait > self._patience:
                said = self._secret.hide(str(busy))
                raise Exhausted(f"{self.base_url}: {said}, after {tally.attempts} attempts", answered) from None
            self.retried += 1
            log.info("%s: %s; attempt %d follows", self.base_url, self._secret.hide(str(busy)), tally.attempts + 1)
            await asyncio.sleep(wait)

    async def post(self, path: str, body: Mapping[str, Any], tally: Tally | None = None) -> dict[str, Any]:
        """The answer to `body`; raises as `attempt`."""
        return await self.attempt(lambda: self.post_once(path, body), tally or Tally())

    async def get(self, path: str) -> dict[str, Any]:
        """What lies at `path`; raises as `attempt`."""
        return await self.attempt(lambda: self._send("GET", path, None), Tally())

    async def post_once(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """As `post`, for use inside `attempt`."""
        return await self._send("POST", path, body)

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        response = await self._http.request(method, self.url(path), json=body)
        self._check(response)
        return _json(response.text)

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of one answer as they come, for use inside `attempt`; closed early, it closes the request."""
        async with self._http.stream("POST", self.url(path), json={**body, "stream": True}) as response:
            if response.status_code != 200:
                await response.aread()
            self._check(response)
            finished = False
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                if (data := line.removeprefix("data:").strip()) == "[DONE]":
                    return
                event = _json(data)
                if "error" in event:
                    raise _Busy(f"the stream broke off: {str(event['error'])[:200]}")
                finished |= any(choice.get("finish_reason") for choice in event.get("choices") or ())
                yield event
        if not finished:  # some servers send no [DONE]
            raise _Busy("the stream broke off")

    def ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """As `post`, once and without waiting for others: for what must be known at once, such as a prompt's tokens."""
        try:
            response = self._plain.post(self.url(path), json=body)
            self._check(response)
            return _json(response.text)
        except (_Busy, httpx.TransportError) as error:
            said = self._secret.hide(str(error) or type(error).__name__)
            raise PolicyError(f"{self.url(path)}: {said}") from None

    def _check(self, response: httpx.Response) -> None:
        """Raises for every status but 200."""
        status = response.status_code
        if status == 200:
            return
        said = self._secret.hide(f"{status} {_message(response.text)}".strip())
        if status in (401, 403):
            name = self._secret.name
            raise ConfigError("key_env", name, f"{self.base_url} does not accept the key in this variable ({said})")
        if status in AGAIN:
            raise _Busy(said, status in FULL, _after(response.headers.get("retry-after", "")))
        raise Refused(f"{response.request.url}: {said}", status)


def broken(reason: str) -> Exception:
    """The error of an attempt whose answer makes no sense: it is made again."""
    return _Busy(reason)


def _of_transport(error: httpx.TransportError) -> _Busy:
    timeout = isinstance(error, httpx.TimeoutException)
    return _Busy(f"{type(error).__name__} {error}".strip(), full=timeout)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise _Busy("the answer is not JSON") from None
    if not isinstance(found, dict):
        raise _Busy("the answer is not a JSON object")
    return found


def _message(text: str) -> str:
    """What an error says, in a line."""
    try:
        found = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:300]
    error = found.get("error", found) if isinstance(found, dict) else found
    said = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(said).split())[:300]


def _after(header: str) -> float:
    """Seconds of a Retry-After header; dates, which few servers send, count as none."""
    try:
        return max(0.0, float(header))
    except ValueError:
        return 0.0
