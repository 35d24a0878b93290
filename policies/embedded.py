"""A decoder-only model in this process as a policy: the engine's ids dressed as segments, steps and finishes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from policies import speculation
from policies.bare import bare
from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.hosts import Hosts
from policies.engine.sampler import VERSION
from policies.engine.trial import agree
from policies.loaded import Loaded
from policies.vocabulary import Vocabulary
from search.errors import ConfigError, PolicyError
from search.types import Cost, Finish, Prefix, Reply, Request, Segment


@dataclass(frozen=True)
class Embedded(Hosts):
    """A policy over any decoder-only checkpoint that `transformers` loads, with a shared prefix cache.

    Built and compared without touching the weights; `async with` loads them. Requests of any number of searches run
    in one continuous batch. Also renders prompts, keeps prefixes, gives likelihoods, and describes itself.

    A step ends at the first token after which its boundary holds; a character that is not complete yet does not count
    as text until it is. A segment's text may run past a delimiter that a token merges with what follows.

    Attributes:
        model: folder with config.json, safetensors, tokenizer.json and a chat template.
        dtype: float32 (the default, on CPUs also the fastest: it has kernels), bfloat16, float16 or float64.
        device: "cpu", "cuda", "cuda:1", ...
        memory: for keys and values, such as "512MB"; full, it forgets the least recently used prefixes.
        threads: of torch's operators (per process, best set before other work); None leaves torch's choice.
        max_context: tokens in prompt and answer together; None takes the model's and the memory's limit. A draw that
            reaches it ends as `Finish.LENGTH`; a prefix that fills it gets an empty segment with that finish.
        rows: draws that run at once; more wait.
        budget: tokens computed in one forward at most.
        speculate: who guesses ahead: "draft", "ngram", "recycle", "told", several in order of priority, a mapping with
            the fields of `policies.speculation.Settings`, or None. No answer depends on it, nor does the fingerprint.
        draft: folder of the model that guesses, with this model's tokenizer.

    Raises:
        ConfigError: on entry, if the folder is not a model, or the settings do not fit it; when built, if a
            number is out of range.
    """

    model: str
    dtype: str = "float32"
    device: str = "cpu"
    memory: str | int = "512MB"
    threads: int | None = None
    max_context: int | None = None
    rows: int = 256
    budget: int = 2048
    speculate: speculation.Wanted = None
    draft: str | None = None
    _loaded: list[Loaded] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        speculation.settings(self.speculate, self.draft)
        for name in ("threads", "max_context", "rows", "budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(name, value, "give a number of at least 1")

    def _load(self) -> Loaded:
        path = Path(self.model)
        config = load.settings(path)
        tokenizer = load.tokenizer(path)
        model = load.language_model(path, self.dtype, self.device)
        agree(model, self.model)
        guesses = speculation.build(self.speculate, self.draft, model, tokenizer, self.threads)
        memory = load.size_in_bytes(self.memory)
        engine = Engine(model, memory, self.rows, self.budget, self.max_context, self.threads, guesses)
        return Loaded(engine, Vocabulary(tokenizer, self.model), load.end_tokens(path, config, tokenizer))

    def front(self) -> Embedded:
        """The same policy without its weights: it prompts, writes and reads text, and draws nothing."""
        return bare(self)

    @property
    def _ready(self) -> Loaded:
        if not self._loaded:
            raise PolicyError(f"{self.model} is not loaded: use it inside `async with`")
        return self._loaded[0]

    @property
    def engine(self) -> Engine:
        """The running engine."""
        return self._ready.engine

    @property
    def guesses(self) -> Mapping[str, Any] | None:
        """What speculation did since the start (`policies.engine.speculate.Counters`); None without it."""
        speculation = self._ready.engine.speculation
        return None if speculation is None else asdict(speculation.counters)

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the tokenizer, the numbers' type, the context limit and the sampler; needs no loading."""
        path = Path(self.model)
        load.settings(path)
        return f"embedded:{load.digest(path, self.dtype, str(self.max_context), VERSION)}"

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Segment:
        """Chat messages (role, content) by the model's own template, ready for the answer; rendered once, to ids."""
        tokenizer = self._ready.vocabulary.tokenizer
        if tokenizer.chat_template is None:
            raise ConfigError("model", self.model, "its tokenizer has no chat template: add chat_template.jinja")
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
        ids = self._ready.vocabulary.encode(text)  # the template writes its own special tokens
        return Segment(ids, text)

    async def sample(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in order.

        Raises:
            PolicyError: a prefix has no ids or ids of another vocabulary; the model failed; not loaded.
        """
        return await _all(self._sample(request) for request in requests)

    async def sample_told(
        self, requests: Sequence[Request], told: Sequence[tuple[tuple[int, ...], ...]]
    ) -> Sequence[Reply]:
        """As `sample`, where `speculate` has "told": tokens that another model drew for each draw of each request."""
        for request, guesses in zip(requests, told, strict=True):
            speculation.tell(self.engine.speculation, request, guesses)
        return await self.sample(requests)

    async def _sample(self, request: Request) -> Reply:
        loaded, sampling = self._ready, request.sampling
        ids = loaded.ids(request.prefix.tokens)
        if request.top:
            return await self._list(ids, request.top, _owner(request.prefix))
        limit = min(sampling.max_tokens, loaded.engine.context - len(ids))
        if limit < 1:
            cut = Segment((), "", (), Finish.LENGTH)
            return Reply((cut,) * len(request.seeds), Cost(policy_calls=1))
        watch, alert = loaded.watch(sampling)
        drawn = await loaded.engine.sample(
            ids,
            request.seeds,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            limit=limit,
            ends=loaded.ends,
            watch=watch,
            alert=alert,
            owner=_owner(request.prefix),
        )
        tally = drawn.tally
        cost = Cost(
            generated=tally.generated,
            prefilled=tally.prefilled,
            reused=tally.reused,
            drafted=tally.drafted,
            policy_calls=1,
            seconds=tally.seconds,
        )
        return Reply(tuple(map(loaded.segment, drawn.draws)), cost)

    async def _list(self, ids: tuple[int, ...], top: int, owner: int) -> Reply:
        """The likeliest next tokens; none, but the end of the path, where the context is full."""
        loaded = self._ready
        if len(ids) >= loaded.engine.context:
            raise PolicyError(f"{len(ids)} tokens fill the context of {loaded.engine.context}: none can follow")
        size = self.vocabulary_size()
        listed = await loaded.engine.likeliest(ids, min(top, size), among=size, owner=owner)
        tally = listed.tally
        cost = Cost(1, tally.prefilled, tally.reused, policy_calls=1, seconds=tally.seconds)
        return Reply(loaded.listed(ids, listed.tokens, listed.logprobs), cost)

    async def logprobs(
        self, prefixes: Sequence[Prefix], continuations: Sequence[Segment]
    ) -> Sequence[tuple[float, ...]]:
        """Nats at temperature 1, one per token of each continuation.

        Raises:
            PolicyError: as `sample`; or prefix and continuation do not fit the context.
        """
        return await _all(self._logprobs(p, c) for p, c in zip(prefixes, continuations, strict=True))

    async def _logprobs(self, prefix: Prefix, continuation: Segment) -> tuple[float, ...]:
        if not continuation.tokens:
            return ()
        loaded = self._ready
        before = loaded.ids(prefix.tokens)
        ids = before + loaded.ids(continuation.tokens)
        outputs = await loaded.engine.read(ids, len(before) - 1, likelihood=True, owner=_owner(prefix))
        return tuple(outputs.values[:, 0].tolist())

    def vocabulary_size(self) -> int:
        """Tokens of the tokenizer that the model has logits for."""
        return min(len(self._ready.vocabulary), self.engine.vocabulary)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokenizer decodes them to; a character cut in two shows as U+FFFD."""
        return self._ready.vocabulary.text(token for token in tokens if token not in self._ready.ends)

    def write(self, text: str) -> Segment:
        """`text` as the tokenizer splits it, special tokens recognised where they are written."""
        return Segment(self._ready.vocabulary.encode(text), text)

    def turn(self, text: str) -> Segment:
        """The user's next turn: what the chat template puts between an answer and the reply to `text`."""
        asked: list[Mapping[str, str]] = [{"role": "user", "content": "?"}]
        said = [*asked, {"role": "assistant", "content": "!"}, {"role": "user", "content": text}]
        before, whole = self.prompt(asked).text + "!", self.prompt(said).text
        if not whole.startswith(before):
            raise ConfigError("model", self.model, "its chat template rewrites earlier turns: give no further turns")
        rendered = whole.removeprefix(before)
        ended = next((end for end in self._ready.end_texts if rendered.startswith(end)), "")
        return Segment(self._ready.vocabulary.encode(rendered.removeprefix(ended)), text)

    def retain(self, prefix: Prefix) -> None:
        """A hint: `prefix` will be continued; of what must be forgotten it goes last."""
        self._ready.engine.retain(prefix.tokens)

    def release(self, prefix: Prefix) -> None:
        """A hint: nothing will continue `prefix`; what is held for its last step alone is freed at once."""
        last = prefix.steps[-1] if prefix.steps else prefix.prompt
        self._ready.engine.release(prefix.tokens, len(prefix.tokens) - len(last.tokens))


def _owner(prefix: Prefix) -> int:
    """Whose turn a request takes in an engine: that of its problem."""
    return hash(prefix.prompt.tokens)


async def _all(calls: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    calls = list(calls)
    if len(calls) == 1:  # without a task of its own
        return [await calls[0]]
    # all enter the engine in one turn of the event loop; the first error is raised once all have ended
    results = await asyncio.gather(*calls, return_exceptions=True)
    if errors := [result for result in results if isinstance(result, BaseException)]:
        raise errors[0]
    return results
