"""An open connection: what was found out about the server, and how a draw goes through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from policies.calls import all_or_none
from policies.http.abilities import Abilities
from policies.http.asking import Asking, Prompt
from policies.http.client import Client, Tally
from policies.http.drift import Drift
from policies.http.grouping import Grouping
from policies.http.rendering import Rendering
from policies.http.wire import Usage, listed, pieces, usage
from policies.http.writing import Draw, Plan, planned
from search.errors import ConfigError, PolicyError
from search.types import Cost, Finish, Prefix, Reply, Request, Sampling, Segment


@dataclass(frozen=True)
class _Ask:
    """A request of the server's.

    Attributes:
        length: tokens of the prompt, or of all prompts.
        n: draws after each prompt.
    """

    prompt: Prompt
    length: int
    sampling: Sampling
    plan: Plan
    seed: int | None
    n: int


@dataclass(frozen=True)
class Connection:
    """A server that answers, and how it is asked."""

    client: Client
    asking: Asking
    abilities: Abilities
    rendering: Rendering
    drift: Drift = field(default_factory=Drift)
    grouping: Grouping = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grouping", Grouping(self._together))

    def unweighed(self) -> Connection:
        """The same, with draws that have no log-probabilities."""
        asking, abilities = replace(self.asking, logprobs=False), replace(self.abilities, logprobs="")
        return Connection(self.client, asking, abilities, self.rendering)

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
            drawn = await all_or_none(self._draw(request, plan, seed, 1) for seed in seeds)
        elif not request.sampling.temperature:  # all draws are one, and some servers refuse to make several
            ((one,), cost) = await self._draw(request, plan, None, 1)
            return Reply((one,) * len(request.seeds), cost)
        elif self.abilities.lists:
            return await self.grouping(request)
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
        ask = _Ask(self.asking.prompt(request.prefix), self._length(request.prefix), request.sampling, plan, seed, n)
        draws, used = await self._once(ask, lambda: self._begin(plan, n), tally)
        if any(draw.early for draw in draws):  # the server stopped where the step does not end
            tally.lost += used.cost(ask.length, self._generated(draws, used))
            if seed is None and self.abilities.prefill:
                return await self._rest(request, draws, tally)
            again = replace(
                plan, stop=(), stream=self.abilities.stream and n == 1
            )  # the same draw, without stop strings
            draws, used = await self._once(replace(ask, plan=again), lambda: self._begin(again, n), tally)
        segments = [draw.segment() for draw in draws]
        generated = self._generated(draws, used)
        if used.prompt is not None:
            self.drift.seen(request.prefix.digest, used.prompt)
            whole = n == 1 and segments[0].finish is Finish.STEP and not draws[0].dropped
            if whole and used.completion is not None:
                self.drift.expect((request.prefix + segments[0]).digest, used.prompt + used.completion)
        cost = used.cost(ask.length, generated) + tally.lost
        return segments, replace(cost, policy_calls=tally.attempts, seconds=tally.seconds)

    async def _rest(self, request: Request, draws: Sequence[Draw], tally: Tally) -> tuple[list[Segment], Cost]:
        """What the draws come to when those that were stopped too early go on; their cost so far is in `tally`."""
        done = await all_or_none(self._resume(request, draw, tally) if draw.early else _itself(draw) for draw in draws)
        cost = replace(tally.lost, policy_calls=tally.attempts, seconds=tally.seconds)
        return [draw.segment() for draw in done], cost

    async def _resume(self, request: Request, draw: Draw, tally: Tally) -> Draw:
        """Without seeds it cannot be drawn again as it was: it goes on from what there is."""
        prefix = request.prefix + draw.drawn
        limit = request.sampling.max_tokens - draw.received
        if limit < 1:
            return draw.resumed().cut()
        plan = replace(draw.plan, limit=limit, stop=(), stream=False)
        ask = _Ask(self.asking.prompt(prefix), self._length(prefix), request.sampling, plan, None, 1)
        (whole,), used = await self._once(ask, lambda: [draw.resumed()], tally)
        tally.lost += used.cost(ask.length, self._generated([whole], used))
        return whole

    async def _together(self, requests: Sequence[Request]) -> list[Reply]:
        """Requests that differ in their prefixes alone, as one request, a prompt for each draw."""
        sampling, counts = requests[0].sampling, [len(request.seeds) for request in requests]
        plan = planned(sampling, self.abilities.stop, self.abilities.stream)
        lengths = [self._length(request.prefix) for request in requests]
        alone, tally = len(requests) == 1, Tally()
        prompts = [
            list(r.prefix.tokens) for r, n in zip(requests, counts, strict=True) for _ in range(1 if alone else n)
        ]
        ask = _Ask(prompts[0] if alone else prompts, sum(lengths), sampling, plan, None, counts[0] if alone else 1)
        draws, used = await self._once(ask, lambda: self._begin(plan, sum(counts)), tally)
        replies: list[Reply] = []
        coming = iter(draws)
        for request, length, n in zip(requests, lengths, counts, strict=True):
            some = list(islice(coming, n))
            read = length if alone else length * n  # as the server counts, which tells the sum
            own = Tally(lost=used._replace(prompt=read).cost(read, sum(draw.received for draw in some)))
            used = used._replace(reused=0)  # the server tells it for one of the prompts
            if not replies:
                own = Tally(tally.attempts, own.lost + tally.lost, tally.seconds)
            segments, cost = await self._rest(request, some, own)
            replies.append(Reply(tuple(segments), cost))
        return replies

    def _begin(self, plan: Plan, count: int) -> list[Draw]:
        said, weighed = self.abilities, bool(self.abilities.logprobs)
        return [Draw(plan, self.rendering.vocabulary, self.rendering.ends, said.ids, weighed) for _ in range(count)]

    async def _once(self, ask: _Ask, begin: Callable[[], list[Draw]], tally: Tally) -> tuple[list[Draw], Usage]:
        """One way of asking, as often as it takes; every attempt fills draws of its own."""
        body = self.asking.draw(ask.prompt, ask.sampling, ask.plan, ask.seed, ask.n)

        async def once() -> tuple[list[Draw], Usage]:
            draws, used = begin(), Usage()
            try:
                if ask.plan.stream:
                    used = await self._stream(body, draws)
                else:
                    answer = await self.client.post_once(self.asking.path, body)
                    used = usage(answer)
                    for piece in pieces(answer)[: len(draws)]:
                        draws[piece.place].add(piece)
                for draw in draws:
                    if not draw.early:
                        draw.segment()  # one that has not ended is asked for again
                return draws, used
            except Exception:
                if received := self._generated(draws, used):
                    tally.lost += used.cost(ask.length, received)
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
        body = self.asking.body(self.asking.prompt(request.prefix), **fields) | {
            "logprobs": min(request.top, self.abilities.vocabulary or request.top)
        }
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
        answer = await self.client.post(
            self.asking.path, self.asking.body(ids, max_tokens=1, temperature=0, echo=True, logprobs=1)
        )
        for choice in answer.get("choices") or ():
            found = ((choice.get("logprobs") or {}).get("token_logprobs") or [])[len(prefix.tokens) : len(ids)]
            if len(found) == len(continuation.tokens) and all(x is not None for x in found):
                return tuple(map(float, found))
        raise PolicyError("the server did not score the prompt it was sent")


async def _itself(draw: Draw) -> Draw:
    return draw
