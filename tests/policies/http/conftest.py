"""Servers to test against: in this process behind httpx, or on a loopback socket in a thread of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from experiments.serving import Answer, Asked, Service, failed
from policies.http import Endpoint
from policies.toy import Toy
from search.types import Prefix, Segment


def split(ids, text):
    """Prompts of the tests end with no letter of the toys' alphabets; what follows is the word."""
    end = max(i + 1 for i, token in enumerate(ids) if chr(token) not in "abcdefgh")
    prefix = Prefix(Segment(ids[:end], "".join(map(chr, ids[:end]))))
    word = ids[end:]
    return prefix + Segment(word, "".join(map(chr, word))) if word else prefix


class Talk(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """A service behind httpx, without sockets. Keeps what it was asked.

    Attributes:
        asked: bodies of the requests, in order, with their paths as "path".
        closed: streams that were not read to their end.
    """

    def __init__(self, service):
        self.service, self.asked, self.closed, self.headers = service, [], 0, []

    async def handle_async_request(self, request):
        return await self._answer(request, await request.aread())

    def handle_request(self, request):
        coroutine = self._answer(request, request.read())
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits")

    async def _answer(self, request, body):
        self.headers.append(dict(request.headers))
        self.asked.append({"path": request.url.path, **(json.loads(body) if body else {})})
        answer = await self.service(Asked(request.method, request.url.path, dict(request.headers), body))
        if answer.events is None:
            return httpx.Response(answer.status, json=answer.body, headers=dict(answer.headers))
        return httpx.Response(200, stream=_Stream(self, answer.events))


class _Stream(httpx.AsyncByteStream):
    def __init__(self, talk, events):
        self.talk, self.events, self.over = talk, events, False

    async def __aiter__(self):
        async for event in self.events:
            yield f"data: {json.dumps(event)}\n\n".encode()
        yield b"data: [DONE]\n\n"
        self.over = True

    async def aclose(self):
        self.talk.closed += not self.over


class Without:
    """A service that lacks some things, as others do.

    Attributes:
        lacks: of "ids", "logprobs", "seed", "n", "stop_reason", "stream", "tokenize", "completions", "prefill", "echo",
            "top", "models".
    """

    def __init__(self, service, *lacks):
        self.service, self.lacks = service, set(lacks)

    async def __call__(self, asked):
        lacks = self.lacks
        absent = {"tokenize": "/tokenize", "completions": "/v1/completions", "models": "/v1/models"}
        if any(what in lacks and asked.path == path for what, path in absent.items()):
            return failed(404, "no such path")
        body = json.loads(asked.body) if asked.body else {}
        if "ids" in lacks:
            if isinstance(body.get("prompt"), list):
                return failed(400, "the prompt has to be a text")
            body.pop("return_token_ids", None)
        if "prefill" in lacks and body.get("messages", [{}])[-1].get("role") == "assistant":
            body["messages"] = body["messages"][:-1]
        if "stream" in lacks and body.get("stream"):
            return failed(400, "no streams")
        if "n" in lacks and body.get("n", 1) > 1:
            return failed(400, "one draw at a time")
        if "seed" in lacks:
            body.pop("seed", None)
        if "logprobs" in lacks:
            body.pop("logprobs", None)
        if "top" in lacks and body.get("logprobs", 0) > 1:
            return failed(400, "too many log-probabilities")
        if "echo" in lacks and body.get("echo"):
            return failed(400, "no echo")
        if "stop_reason" in lacks:
            body.pop("include_stop_str_in_output", None)
        answer = await self.service(replace(asked, body=json.dumps(body).encode() if asked.body else b""))
        if "stop_reason" in lacks:
            for choice in answer.body.get("choices", ()):
                choice.pop("stop_reason", None)
        return answer


class Lists:
    """A service that takes several prompts in one request, as vLLM does."""

    def __init__(self, service):
        self.service = service

    async def __call__(self, asked):
        body = json.loads(asked.body) if asked.body else {}
        prompts = body.get("prompt")
        if not isinstance(prompts, list) or not isinstance(prompts[0], list):
            return await self.service(asked)
        each = [
            await self.service(replace(asked, body=json.dumps({**body, "prompt": prompt}).encode()))
            for prompt in prompts
        ]
        pairs = [(prompt, c) for prompt, answer in zip(prompts, each) for c in answer.body["choices"]]
        choices = [{**choice, "index": i, "prompt_token_ids": prompt} for i, (prompt, choice) in enumerate(pairs)]
        used = [answer.body["usage"] for answer in each]
        total = {name: sum(some[name] for some in used) for name in ("prompt_tokens", "completion_tokens")}
        return Answer(200, {**each[0].body, "choices": choices, "usage": total})


class Faulty:
    """A service with faults: the i-th request is answered by `faults[i]` if that is not None.

    A fault takes the request and the service and gives an answer.
    """

    def __init__(self, service, faults: list[Callable | None] | None = None):
        self.service, self.faults, self.calls = service, faults or [], 0

    async def __call__(self, asked):
        fault = self.faults.pop(0) if self.faults else None
        self.calls += 1
        return await (fault(asked, self.service) if fault else self.service(asked))


def status(code, **headers):
    async def fault(asked, service):
        return Answer(code, {"error": {"message": f"status {code}"}}, headers=headers)

    return fault


def torn(events):
    """The stream breaks off after so many events."""

    async def fault(asked, service):
        answer = await service(asked)

        async def some():
            left = events
            async for event in answer.events:
                if not left:
                    raise httpx.ReadError("connection lost")
                left -= 1
                yield event

        return Answer(200, events=some())

    return fault


async def garbled(asked, service):
    answer = await service(asked)
    return Answer(200, {**answer.body, "choices": [{**c, "finish_reason": None} for c in answer.body["choices"]]})


@pytest.fixture
def serve():
    """Makes an endpoint over a policy; gives it and its transport."""

    def make(policy=None, *lacks, prefix=split, faults=None, **settings):
        service = Service(policy or Toy("abc", 6, 0.2), "toy", prefix=prefix)
        inner = Lists(service) if "lists" not in lacks else service
        faulty = Faulty(Without(inner, *lacks) if lacks else inner, faults)
        talk = Talk(faulty)
        endpoint = Endpoint(transport=talk, **{"pause": 0.0, **settings})
        return endpoint, talk

    return make


@pytest.fixture
def faults():
    class Faults:
        pass

    Faults.status, Faults.torn, Faults.garbled = staticmethod(status), staticmethod(torn), staticmethod(garbled)
    return Faults
