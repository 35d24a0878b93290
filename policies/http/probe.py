"""Asks a server what it can do, in a dozen requests of a few tokens; belief is kept to what it was seen to do.

The tokens of these requests are part of no budget: they are spent once per run, before the first problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple, cast

from policies.http.abilities import EVERY, Abilities
from policies.http.asking import PREFILLS, Asking, Prompt
from policies.http.client import Client, Exhausted, Refused
from policies.http.rendering import Rendering
from policies.http.wire import Piece, end_of, listed, pieces, usage
from search.errors import ConfigError, PolicyError

LONG = 16  # tokens of a probe
ENDING = 256  # tokens in which an answer to it should end
QUESTION = [{"role": "user", "content": "Count from one to nine."}]
BIG = (1 << 62) + 12345  # a seed of 63 bits


class Found(NamedTuple):
    """What a server can do, and how it is asked for it."""

    abilities: Abilities
    asking: Asking


class Probe:
    """Asks through one client, with one model's name; `seeded`: whether seeds would be used."""

    def __init__(self, client: Client, model: str, extra: Mapping[str, Any], seeded: bool = True):
        self.client, self.model, self.extra, self.seeded = client, model, extra, seeded
        self.ends: set[int] = set()  # end-of-sequence ids seen

    async def tokens(self, rendering: Rendering, context: int | None) -> Found | str:
        """What it can do with token ids; or why it cannot work with them."""
        prompt = list(rendering.prompt(QUESTION).tokens)
        asking = Asking(self.model, "tokens", extra=self.extra)
        answer = await self._ask(asking, prompt, temperature=0)
        if isinstance(answer, str):
            return f"it takes no token ids ({answer})"
        first = _first(answer)
        if not first.tokens or len(first.tokens) != len(first.logprobs):
            return f"it answers with {len(first.tokens)} token ids and {len(first.logprobs)} log-probabilities"
        if usage(answer).prompt not in (None, len(prompt)):
            return f"it reads {usage(answer).prompt} tokens where {len(prompt)} were sent"
        found = await self._common(asking, prompt, answer, first, context, reads=True)
        if not (self.ends or rendering.ends):
            await self._ask(asking, prompt, temperature=0, max_tokens=ENDING)
        rendering.ends.update(self.ends)
        known = found.abilities if rendering.ends else replace(found.abilities, top=0)  # an end is not a token to list
        return found._replace(abilities=known)

    async def text(self, rendering: Rendering, context: int | None) -> Found | str:
        """What it can do with text; or why it cannot complete text."""
        prompt = rendering.prompt(QUESTION).text
        asking = Asking(self.model, "text", extra=self.extra)
        answer = await self._ask(asking, prompt, temperature=0)
        if isinstance(answer, str):
            asking = Asking(self.model, "text", logprobs=False, extra=self.extra)
            answer = await self._ask(asking, prompt, temperature=0)
        if isinstance(answer, str):
            return f"it completes no text ({answer})"
        return await self._common(asking, prompt, answer, _first(answer), context)

    async def chat(self, context: int | None) -> Found | str:
        """What it can do with chats; or why it has none."""
        reasons = []
        for logprobs, limit in product((True, False), ("max_tokens", "max_completion_tokens")):
            asking = Asking(self.model, "chat", "plain", logprobs, limit, self.extra)
            answer = await self._ask(asking, QUESTION, temperature=0)
            if not isinstance(answer, str):
                break
            reasons.append(answer)
        else:
            return f"it has no chat ({reasons[0]})"
        first = _first(answer)
        return await self._common(asking, QUESTION, answer, first, context, prefill=await self._prefill(asking, answer))

    async def _common(
        self,
        asking: Asking,
        prompt: Prompt,
        answer: Mapping[str, Any],
        first: Piece,
        context: int | None,
        prefill: str = "plain",
        reads: bool = False,
    ) -> Found:
        raw = any(x < -1e-3 for x in first.logprobs)  # a greedy token is certain under the distribution sampled from
        seeds = await self._seeds(asking, prompt) if self.seeded else 0
        vocabulary = await self._vocabulary(asking, prompt) if asking.route == "tokens" else None
        n = not isinstance(found := await self._ask(asking, prompt, n=2), str) and len(pieces(found)) == 2
        abilities = Abilities(
            route=asking.route,
            prefill=prefill,
            logprobs=("raw" if raw else "sampled") if first.logprobs and asking.logprobs else "",
            seeds=seeds,
            n=n,
            lists=n and not seeds and asking.route == "tokens" and await self._lists(asking, prompt),
            stop=await self._stop(asking, prompt, first),
            stream=await self._stream(asking, prompt),
            top=EVERY if vocabulary else await self._top(asking, prompt) if asking.route == "tokens" else 0,
            vocabulary=vocabulary,
            scores=asking.route == "tokens" and await self._scores(asking, prompt),
            context=context,
            reads=reads,
        )
        return Found(abilities, replace(asking, prefill=prefill, logprobs=bool(abilities.logprobs)))

    async def _ask(self, asking: Asking, prompt: Prompt, **fields: Any) -> dict[str, Any] | str:
        """The answer, or why there is none."""
        body = asking.body(prompt, **{"max_tokens": LONG, "temperature": 1.0, **fields})
        try:
            answer = await self.client.post(asking.path, body)
        except Refused as refused:
            return str(refused)
        self.ends.update(*map(end_of, pieces(answer)))
        return answer if pieces(answer) else "the answer has no choices"

    async def _seeds(self, asking: Asking, prompt: Prompt) -> int:
        """63 or 31 bits: equal seeds gave equal draws, and not all seeds gave the same; else 0."""
        for bits, seed in ((63, BIG), (31, 12345)):
            # each seed twice: short draws of a server that ignores seeds may be equal once by chance, hardly five times
            drawn = [await self._ask(asking, prompt, seed=seed + i // 2) for i in range(10)]
            if any(isinstance(answer, str) for answer in drawn):
                continue
            texts = [_first(answer)[1:3] for answer in drawn if not isinstance(answer, str)]
            return bits if texts[::2] == texts[1::2] and len(set(texts)) > 1 else 0
        return 0

    async def _lists(self, asking: Asking, prompt: Prompt) -> bool:
        """Whether two draws after each of two prompts come in the order of the prompts."""
        ids = cast(list[int], prompt)
        answer = await self._ask(asking, [ids, [*ids, *ids]], n=2)
        choices = [] if isinstance(answer, str) else sorted(answer["choices"], key=lambda choice: choice["index"])
        return [choice.get("prompt_token_ids") for choice in choices] == [ids, ids, [*ids, *ids], [*ids, *ids]]

    async def _stop(self, asking: Asking, prompt: Prompt, first: Piece) -> bool:
        """Whether a stop string and the end of sequence can be told apart."""
        if len(first.text) < 3:
            return False
        word = first.text[1:3]
        answer = await self._ask(asking, prompt, temperature=0, stop=[word], include_stop_str_in_output=True)
        if isinstance(answer, str) or (stopped := _first(answer)).finish != "stop":
            return False
        ends = await self._ask(asking, prompt, temperature=0, stop=["\u2603\u2603"], include_stop_str_in_output=True)
        told = not isinstance(ends, str) and _first(ends).stop is None
        return told and stopped.stop == word

    async def _stream(self, asking: Asking, prompt: Prompt) -> bool:
        body = asking.body(prompt, max_tokens=4, temperature=0, stream_options={"include_usage": True})
        try:
            events = [event async for event in self.client.stream(asking.path, body)]
        except Exception as error:  # a server that cannot stream may fail in any way; one that is gone fails the rest
            if isinstance(error, ConfigError):
                raise
            return False
        found = [piece for event in events for piece in pieces(event)]
        ids = asking.route != "tokens" or all(len(p.tokens) == len(p.logprobs) for p in found)
        return bool(found) and ids and (asking.route != "tokens" or any(p.tokens for p in found))

    async def _vocabulary(self, asking: Asking, prompt: Prompt) -> int | None:
        """How many tokens it lists where -1 asks for all, as vLLM lets one that is started with --max-logprobs -1."""
        answer = await self._ask(asking, prompt, max_tokens=1, logprobs=-1, return_tokens_as_token_ids=True)
        rows = [] if isinstance(answer, str) else listed(answer)
        known = {row.token for row in rows} - {None}
        return len(known) if sum(math.exp(row.logprob) for row in rows) > 0.9999 else None

    async def _top(self, asking: Asking, prompt: Prompt) -> int:
        """How many next tokens it lists with their ids; `EVERY` for all of them."""
        best = 0
        for count in (5, 20, 64, 256, 1024, EVERY):
            answer = await self._ask(asking, prompt, max_tokens=1, logprobs=count, return_tokens_as_token_ids=True)
            if isinstance(answer, str) or not (rows := listed(answer)) or any(row.token is None for row in rows):
                break
            # some list the drawn token beside the k likeliest
            found = min(len({row.token for row in rows}), count)
            if found < count and sum(math.exp(row.logprob) for row in rows) > 0.9999:
                return EVERY  # no token is left out
            best = max(best, found)
            if found < count:
                break
        return best

    async def _scores(self, asking: Asking, prompt: Prompt) -> bool:
        answer = await self._ask(asking, prompt, max_tokens=1, temperature=0, echo=True)
        return not isinstance(answer, str) and len(_weighed(answer)) >= len(prompt)

    async def _prefill(self, asking: Asking, whole: Mapping[str, Any]) -> str:
        """The way in which it goes on with the first half of its own greedy answer as it did before.

        It has to read more than without that half, too: an answer that repeats itself may begin as it goes on.
        """
        first, read = _first(whole), usage(whole).prompt
        half = len(first.text) // 2
        begun = [*QUESTION, {"role": "assistant", "content": first.text[:half]}]
        rest = first.text[half:].strip()
        for way in PREFILLS if half and rest else ():
            how = replace(asking, prefill=way)
            answer = await self._ask(how, begun, temperature=0)
            said = "" if isinstance(answer, str) else _first(answer).text.strip()
            more = None if isinstance(answer, str) else usage(answer).prompt
            if read is not None and more is not None and more <= read:
                continue
            if said and (said.startswith(rest[: len(said)]) or rest.startswith(said)):
                return way
        return ""


def _first(answer: Mapping[str, Any]) -> Piece:
    return pieces(answer)[0]


def _weighed(answer: Mapping[str, Any]) -> list[float | None]:
    """Log-probabilities of an echoed prompt and what follows it."""
    for choice in answer.get("choices") or ():
        return list((choice.get("logprobs") or {}).get("token_logprobs") or ())
    return []


async def model_of(client: Client, wanted: str | None) -> tuple[str, int | None]:
    """The name of the model to ask for, and its context, where the server lists its models."""
    try:
        found = {row["id"]: row for row in (await client.get("models")).get("data") or () if "id" in row}
    except (Refused, KeyError, TypeError, PolicyError) as error:
        ill = isinstance(error, Exhausted) and error.answered  # its list fails, which need not concern what it serves
        if wanted is None or not (ill or isinstance(error, Refused | KeyError | TypeError)):
            if isinstance(error, PolicyError) and not isinstance(error, Refused):
                raise ConfigError("base_url", client.base_url, f"no server answers there ({error})") from None
            raise ConfigError("model", wanted, "the server lists no models: give the name of one") from None
        return wanted, None
    if wanted is None and len(found) != 1:
        raise ConfigError("model", None, f"the server has {len(found)} models: choose from {', '.join(sorted(found))}")
    name = wanted or next(iter(found))
    if found and name not in found:
        raise ConfigError("model", name, f"the server has no such model: choose from {', '.join(sorted(found))}")
    row = found.get(name, {})
    return name, row.get("max_model_len") or (row.get("meta") or {}).get("n_ctx")
