"""An open connection: what was found out about the server, and how a draw goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from policies.http.abilities import Abilities
from policies.http.asking import Asking
from policies.http.client import Client, Tally
from policies.http.drift import Drift
from policies.http.probe import Probe, model_of
from policies.http.rendering import Chat, Local, Plain, Rendering, remote
from policies.http.wire import Usage, listed, pieces, usage
from policies.http.writing import Draw, Plan, planned
from search.errors import ConfigError, PolicyError
from search.types import Cost, Finish, Prefix, Reply, Request, Segment


@dataclass(frozen=True)
class Connection:
    """A server that answers, and how it is asked."""

    client: Client
    asking: Asking
    abilities: Abilities
    rendering: Rendering
    drift: Drift = field(default_factory=Drift)

    async def sample(self, request: Request) -> Reply:
        """The reply to one request, whatever it took."""
        self._check(request.prefix)
        if request.top:
            return await self._list(request)
        limit = request.sampling.max_tokens
        if self.abilities.context is not None and self.abilities.ids:
            limit = min(limit, self.abilities.context - len(request.prefix.tokens))
        if limit < 1:
            return Reply((Segment((), "", (), Finish.LENGTH),) * len(request.seeds), Cost(policy_calls=1))
        request = replace(request, sampling=replace(request.sampling, max_tokens=limit))
        plan = planned(request.sampling, self.abilities.stop, self.abilities.stream)
        if self.abilities.seeds or plan.stream or not self.abilities.n:
            mask = (1 << (self.abilities.seeds or 63)) - 1
            seeds = [seed & mask if self.abilities.seeds else None for seed in request.seeds]
            drawn = await _all(self._draw(request, plan, seed, 1) for seed in seeds)
        else:
            drawn = [await self._draw(request, plan, None, len(request.seeds))]
        segments = tuple(segment for some, _ in drawn for segment in some)
        return Reply(segments, sum((cost for _, cost in drawn), Cost()))

    def _check(self, prefix: Prefix) -> None:
        if self.abilities.ids and not prefix.tokens:
            raise PolicyError("a prefix without token ids cannot be continued by a server that takes ids")
        if not self.abilities.prefill and prefix.reply:
            raise PolicyError(self.abilities.lacks()["continues"])

    async def _draw(self, request: Request, plan: Plan, seed: int | None, n: int) -> tuple[list[Segment], Cost]:
        """`n` draws of one request, and what they cost with all lost attempts."""
        tally = Tally()
        draws, used = await self._once(request, plan, seed, n, tally)
        if any(draw.early for draw in draws):  # the server stopped where the step does not end: without stop strings
            tally.lost += used.cost(self._length(request.prefix), self._generated(draws, used))
            again = replace(plan, stop=(), stream=self.abilities.stream and n == 1)
            draws, used = await self._once(request, again, seed, n, tally)
        segments = [draw.segment() for draw in draws]
        generated = self._generated(draws, used)
        if used.prompt is not None:
            self.drift.seen(request.prefix.digest, used.prompt)
            if n == 1 and used.completion is not None and segments[0].finish is Finish.STEP:
                self.drift.expect((request.prefix + segments[0]).digest, used.prompt + used.completion)
        cost = used.cost(self._length(request.prefix), generated) + tally.lost
        return segments, replace(cost, policy_calls=tally.attempts, seconds=tally.seconds)

    async def _once(
        self, request: Request, plan: Plan, seed: int | None, n: int, tally: Tally
    ) -> tuple[list[Draw], Usage]:
        """One way of asking, as often as it takes."""
        prompt = self.asking.prompt(request.prefix)
        body = self.asking.draw(prompt, request.sampling, plan, seed, n)

        async def once() -> tuple[list[Draw], Usage]:
            draws = [Draw(plan, self.rendering.vocabulary, self.rendering.ends, self.abilities.ids) for _ in range(n)]
            used = Usage()
            try:
                if plan.stream:
                    used = await self._stream(body, draws)
                else:
                    answer = await self.client.post_once(self.asking.path, body)
                    used = usage(answer)
                    for piece in pieces(answer)[:n]:
                        draws[piece.place].add(piece)
                for draw in draws:
                    if not draw.early:
                        draw.segment()  # one that has not ended is asked for again
                return draws, used
            except Exception:
                if received := self._generated(draws, used):
                    tally.lost += used.cost(self._length(request.prefix), received)
                raise

        return await self.client.attempt(once, tally)

    async def _stream(self, body: Mapping[str, Any], draws: list[Draw]) -> Usage:
        """Reads until the draw ends; leaving closes the request."""
        used = Usage()
        async with aclosing(self.client.stream(self.asking.path, body)) as events:
            async for event in events:
                if event.get("usage"):
                    used = usage(event)
                for piece in pieces(event):
                    draws[piece.place].add(piece)
                if draws[0].finish is Finish.STEP:  # our end, not the server's: after its own it sends the usage
                    break
        return used

    def _generated(self, draws: list[Draw], used: Usage) -> int:
        """Tokens drawn, by their ids; where there are none, as the server counts, or at least one per event."""
        received = sum(draw.received for draw in draws)
        return received if self.abilities.ids or used.completion is None else used.completion

    def _length(self, prefix: Prefix) -> int:
        return len(prefix.tokens)

    async def _list(self, request: Request) -> Reply:
        """The likeliest next tokens."""
        if request.top > self.abilities.top:
            remedy = f"this server lists {self.abilities.top} tokens: ask for no more, or let it list more"
            raise ConfigError("top", request.top, remedy)
        tally, fields = Tally(), {"max_tokens": 1, "temperature": 0, "return_tokens_as_token_ids": True}
        body = self.asking.body(self.asking.prompt(request.prefix), **fields) | {"logprobs": request.top}
        answer = await self.client.post(self.asking.path, body, tally)
        rows = [row for row in listed(answer) if row.token is not None][: request.top]
        if not rows:
            raise PolicyError("the server lists no next tokens here")
        segments = []
        for row in rows:
            assert row.token is not None
            end = row.token in self.rendering.ends
            text = "" if end else self.rendering.text((row.token,))
            finish = Finish.EMPTY if end else Finish.STEP
            segments.append(Segment((row.token,), text, (min(row.logprob, 0.0),), finish))
        cost = usage(answer).cost(self._length(request.prefix), 1)
        return Reply(tuple(segments), replace(cost, policy_calls=tally.attempts, seconds=tally.seconds))

    async def likelihood(self, prefix: Prefix, continuation: Segment) -> tuple[float, ...]:
        """Nats at temperature 1 of what follows `prefix`, by an echo of both."""
        if not continuation.tokens:
            return ()
        ids = [*prefix.tokens, *continuation.tokens]
        answer = await self.client.post(self.asking.path, self.asking.body(ids, max_tokens=1, temperature=0, echo=True))
        for choice in answer.get("choices") or ():
            found = ((choice.get("logprobs") or {}).get("token_logprobs") or [])[len(prefix.tokens) : len(ids)]
            if len(found) == len(continuation.tokens) and all(x is not None for x in found):
                return tuple(map(float, found))
        raise PolicyError("the server did not score the prompt it was sent")


async def connect(
    client: Client,
    model: str | None,
    route: str,
    tokenizer: str | None,
    template: bool,
    extra: Mapping[str, Any],
    max_context: int | None,
) -> Connection:
    """Finds the best way to work with a server; raises ConfigError if there is none, with every reason."""
    name, told = await model_of(client, model)
    context = min((limit for limit in (told, max_context) if limit is not None), default=None)
    probe, reasons = Probe(client, name, extra), []
    for kind in ("tokens", "text", "chat") if route == "auto" else (route,):
        try:
            rendering, reason = await asyncio.to_thread(_rendering, client, name, kind, tokenizer, template)
            if rendering is None:
                reasons.append(f"{kind}: {reason}")
                continue
            if kind == "chat":
                found = await probe.chat(context)
            else:
                found = await (probe.tokens if kind == "tokens" else probe.text)(rendering, context)
        except PolicyError as error:  # no chat template, say
            reasons.append(f"{kind}: {error}")
            continue
        if isinstance(found, str):
            reasons.append(f"{kind}: {found}")
            continue
        abilities, asking = found
        return Connection(client, asking, abilities, rendering)
    raise ConfigError("route", route, f"this server cannot be used: {'; '.join(reasons)}")


def _rendering(
    client: Client, model: str, kind: str, tokenizer: str | None, template: bool
) -> tuple[Rendering | None, str]:
    """How prompts are made for a route; or None and why not."""
    if kind == "chat":
        return Chat(), ""
    if tokenizer is not None:
        return Local(tokenizer, ids=kind == "tokens"), ""
    if kind == "tokens":
        return remote(client.ask, model), "the server lends its tokenizer to nobody: give tokenizer=DIR"
    if not template:
        return Plain(), ""
    return None, "nobody knows the chat template: give tokenizer=DIR, or template=false for a base model"


async def _all(calls: Any) -> list[Any]:
    """Side by side; if one fails the others are closed."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
