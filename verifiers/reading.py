"""Verifiers that read a prefix as the policy wrote it, with a model of their own: its ids, what was read before."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from policies.engine import load
from policies.engine.calls import Outputs
from policies.engine.engine import Engine
from policies.engine.trial import agree
from policies.vocabulary import Vocabulary
from search.errors import ConfigError, PolicyError, VerifierError
from search.types import Cost, Finish, Prefix, Segment, Verdict, chain
from verifiers.hosted import Hosted

KNOWN = 1 << 16  # prefixes whose values are remembered
ENDED = (Finish.END, Finish.EMPTY)


class Layout(NamedTuple):
    """A prefix as the reading model sees it.

    Attributes:
        ids: prompt and steps.
        bounds: how many ids there are up to the prompt's end, the first step's end, ...; one more than steps.
        marks: per step, positions in `ids` where a line of it ends; the last is the step's last token.
    """

    ids: tuple[int, ...]
    bounds: tuple[int, ...]
    marks: tuple[tuple[int, ...], ...]

    @property
    def owner(self) -> int:
        """Whose turn a reading takes in the engine: that of its problem."""
        return hash(self.ids[: self.bounds[0]])


@dataclass(frozen=True)
class Reading(Hosted):
    """What PRMs and language models as judges share that read the policy's own text, step by step.

    Attributes:
        ids: "policy": the prefix's own ids are read, which asks for the policy's tokenizer and template; "own":
            question and steps are rendered with this model's template, step by step, so that a step's ids never
            change; "auto": "policy" where the prompt's ids stand for its text in this model's vocabulary, else "own".
        separator: text of the token that ends a step; must be one token.

    Where a step ends: at its last token. That is the separator for a step, the token it is merged into where it is
    merged with its neighbour (nothing is tokenised again), and the end token for a complete answer, which is added if
    the policy left it out. With own ids, a step is its text without trailing blanks, then the separator. A segment cut
    by a token limit ends where it was cut.
    """

    ids: str = "auto"
    separator: str = "\n\n"
    _known: OrderedDict[bytes, tuple[Any, ...]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ids not in ("auto", "policy", "own"):
            raise ConfigError("ids", self.ids, "give auto, policy or own")

    def _forget(self) -> None:
        self._known.clear()

    @abstractmethod
    def _weights(self, path: Path) -> load.Model:
        """What it reads with."""

    def _load(self) -> _Loaded:
        path = Path(self.model)
        config = load.settings(path)
        tokenizer = load.tokenizer(path)
        vocabulary = Vocabulary(tokenizer, self.model)
        separator = vocabulary.encode(self.separator)
        if len(separator) != 1:
            raise ConfigError("separator", self.separator, f"it is {len(separator)} tokens of this model: give one")
        marks = frozenset(i for i, text in enumerate(vocabulary.texts) if text and self.separator in text)
        ends = load.end_tokens(path, config, tokenizer)
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(ends)
        return _Loaded(self._reader(path), vocabulary, self.ids, separator[0], marks, ends, end)

    def _reader(self, path: Path) -> Engine:
        """What reads; not started yet."""
        model = self._weights(path)
        agree(model, self.model)
        return self._engine(model)

    def _shaping(self) -> tuple[object, ...]:
        return self.dtype, self.max_context, self.ids, self.separator

    async def _score(self, prefix: Prefix) -> Verdict:
        loaded, prefix = self._ready, prefix.judged
        # the longest beginning of the prefix whose steps have values already
        digests = [chain(b"", prefix.prompt)]
        for step in prefix.steps:
            digests.append(chain(digests[-1], step))
        known: tuple[Any, ...] = ()
        for digest in reversed(digests[1:]):
            if digest in self._known:
                self._known.move_to_end(digest)
                known = self._known[digest]
                break
        values, cost = known, Cost(passes=1)
        if len(known) < len(prefix.steps):
            layout = loaded.layout(prefix)
            try:
                new, outputs = await self._values(layout, len(known))
            except PolicyError as error:
                raise VerifierError(f"{self.model} cannot read {prefix.text[-60:]!r}: {error}") from error
            values = known + new
            if outputs is not None:
                tally = outputs.tally
                cost = Cost(passes=1, read=tally.prefilled, reused=tally.reused, seconds=tally.seconds)
        if len(values) != len(prefix.steps):
            raise VerifierError(f"{len(values)} values for {len(prefix.steps)} steps of {prefix.text[-60:]!r}")
        for count in range(len(known) + 1, len(values) + 1):
            self._known[digests[count]] = values[:count]
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return self._verdict(prefix, values, cost)

    @abstractmethod
    async def _values(self, layout: Layout, known: int) -> tuple[tuple[Any, ...], Outputs | None]:
        """What each step from number `known` on is worth, and what reading them took (None: nothing was read)."""

    @abstractmethod
    def _verdict(self, prefix: Prefix, values: tuple[Any, ...], cost: Cost) -> Verdict:
        """The judgement of `prefix`, given what its steps are worth."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    vocabulary: Vocabulary
    how: str
    separator: int
    marks: frozenset[int]  # ids whose text has the separator in it
    ends: frozenset[int]
    end: int

    def layout(self, prefix: Prefix) -> Layout:
        """The prefix in ids."""
        prompt = prefix.prompt
        same = bool(prompt.tokens) and self.vocabulary.text(prompt.tokens) == prompt.text
        if self.how == "policy" and not same:
            raise VerifierError("the prompt's ids are not of this model's vocabulary: set ids to own or auto")
        direct = same and self.how != "own"
        first = prompt.tokens if direct else self._question(prefix.question)
        parts = [self._direct(step) if direct else self._rendered(step) for step in prefix.steps]
        ids, bounds, marks = list(first), [len(first)], []
        for part in parts:
            begin = len(ids)
            ids += part
            inner = [begin + i for i, token in enumerate(part[:-1]) if token in self.marks]
            marks.append((*inner, len(ids) - 1))
            bounds.append(len(ids))
        if max(ids) >= self.engine.vocabulary:
            raise VerifierError("the prefix has ids beyond this model's vocabulary: set ids to own")
        return Layout(tuple(ids), tuple(bounds), tuple(marks))

    def _question(self, question: str) -> tuple[int, ...]:
        tokenizer = self.vocabulary.tokenizer
        if not question or tokenizer.chat_template is None:
            lack = "a chat template" if question else "the question"
            raise VerifierError(f"to render the prompt itself, this model needs {lack}")
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.vocabulary.encode(text)

    def _direct(self, step: Segment) -> tuple[int, ...]:
        ended = step.finish in ENDED
        bare = step.tokens[:-1] if ended and step.tokens and step.tokens[-1] in self.ends else step.tokens
        if self.vocabulary.text(bare) != step.text:
            raise VerifierError(f"ids of {step.text!r} stand for something else here: set ids to own")
        return (*bare, self.end) if ended and bare == step.tokens else step.tokens

    def _rendered(self, step: Segment) -> tuple[int, ...]:
        lines = [line for line in step.text.split(self.vocabulary.texts[self.separator] or "") if line.strip()]
        ids: list[int] = []
        for line in lines:
            ids += [self.separator] if ids else []
            ids += self.vocabulary.encode(line.rstrip())
        ids += [self.end] if step.finish in ENDED else [self.separator] if step.finish is Finish.STEP else []
        return tuple(ids)
