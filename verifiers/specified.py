"""Reward models described by data: how they are asked, where they are read, how what they say becomes a value."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.trial import agree
from policies.vocabulary import Vocabulary
from search.errors import ConfigError, PolicyError, VerifierError
from search.types import Cost, Prefix, Verdict
from verifiers.combine import HOW
from verifiers.curves import Curve, Same, curve_of
from verifiers.form import Form, Rendered
from verifiers.hosted import Hosted
from verifiers.readout import Readout

KNOWN = 1 << 16  # tokens read whose probabilities are remembered
TRUNCATION = ("error", "left")


@dataclass(frozen=True, kw_only=True)
class Specified(Hosted):
    """A process or outcome reward model of any family, given as a form, a readout and a few rules.

    The configurations `math_shepherd`, `rlhflow`, `skywork`, `qwen_math_prm` and others describe published ones. There
    are as many probabilities as pieces of the answer, or there is an error: never a default, a pad or a cut.

    A prefix is rendered anew each time by the model's own tokenizer and template, and only what was not read before
    is computed: a step is new when the ids up to it are, whatever search or problem they come from.

    Attributes:
        form: the template, see `verifiers.form`.
        readout: what is read at a token, see `verifiers.readout`.
        split: a step of the search is cut at this text, and each piece that is not blank is a step of the model's;
            None takes it as one. A step without text is worth what the steps before it are.
        within: how the pieces of one step become its value: last, min, mean or prod.
        pool: how the values of the steps become that of the prefix: last, min, mean or prod.
        truncation: a sequence beyond `max_context` is an "error"; "left": a step that ends beyond it is read after
            the last `max_context` tokens before it, without those on the left (computed for each such step anew).
        calibration: what maps a probability to a better one (`verifiers.curves`): a curve, or a file with a fitted one.

    Raises:
        ConfigError: on entry, if the folder does not fit the description; when built, if a setting is out of range.
        VerifierError: from `score`, if there is no step or no question, if it cannot be rendered, or is too long.
    """

    form: Form
    readout: Readout
    split: str | None = "\n\n"
    within: str = "last"
    pool: str = "last"
    truncation: str = "error"
    calibration: Curve | Mapping[str, object] | str | None = None
    _known: OrderedDict[bytes, float] = field(default_factory=OrderedDict, init=False, repr=False, compare=False)
    _curve: Curve = field(default=Same(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in (("within", HOW), ("pool", HOW), ("truncation", TRUNCATION)):
            if getattr(self, name) not in choices:
                raise ConfigError(name, getattr(self, name), f"give one of {', '.join(choices)}")
        if self.split == "":
            raise ConfigError("split", self.split, "give a text, or null to take every step as one piece")
        object.__setattr__(self, "_curve", curve_of(self.calibration))

    def _load(self) -> _Loaded:
        path = Path(self.model)
        vocabulary = Vocabulary(load.tokenizer(path), self.model)
        engine = self._reader(path, vocabulary)
        try:
            self.form.render(vocabulary, "1", ["2", "3"])
        except VerifierError as error:
            raise ConfigError("form", self.form, f"{self.model} does not fit it: {error}") from error
        return _Loaded(engine, vocabulary)

    def _reader(self, path: Path, vocabulary: Vocabulary) -> Engine:
        """What reads; not started yet."""
        model = self.readout.load(path, self.dtype, self.device)
        agree(model, self.model)
        return self._engine(self.readout.head(model, vocabulary))

    def _forget(self) -> None:
        self._known.clear()

    def _shaping(self) -> tuple[object, ...]:
        rules = (self.form, self.readout, self.split, self.within, self.pool, self.truncation, self._curve)
        return (self.dtype, self.max_context, *rules)

    def pieces(self, text: str) -> list[str]:
        """What of a step's text the model takes for steps."""
        parts = [text] if self.split is None else text.split(self.split)
        return [part.strip() for part in parts if part.strip()]

    async def _score(self, prefix: Prefix) -> Verdict:
        loaded: _Loaded = self._ready
        if not prefix.question:
            raise VerifierError("the prefix has no question, which this model's template needs")
        steps = [self.pieces(step.text) for step in prefix.reply]
        if not any(steps):
            raise VerifierError("a prefix without steps has no step end at which to read a score")
        try:
            rendered = self.form.render(loaded.vocabulary, prefix.question, [piece for step in steps for piece in step])
            read, cost = await self._read(loaded.engine, rendered)
        except (VerifierError, PolicyError) as error:
            raise VerifierError(f"{self.model} cannot read {prefix.text[-60:]!r}: {error}") from error
        probabilities = [self._curve(p) for p in read]
        if self.form.whole:
            return Verdict(probabilities[-1], (), cost)
        if len(probabilities) != sum(map(len, steps)):
            raise VerifierError(f"{len(probabilities)} probabilities came back for {sum(map(len, steps))} steps")
        values: list[float] = []
        rest = iter(probabilities)
        for step in steps:
            own = [next(rest) for _ in step]
            if not own and not values:
                raise VerifierError("the first step has no text at whose end to read a score")
            values.append(HOW[self.within](own) if own else values[-1])
        return Verdict(HOW[self.pool](values), tuple(values), cost)

    async def _read(self, engine: Engine, rendered: Rendered) -> tuple[list[float], Cost]:
        """The probability at each mark; what is remembered is not computed."""
        keys = _keys(rendered)
        found: dict[int, float] = {}
        for index, key in enumerate(keys):
            if key in self._known:
                self._known.move_to_end(key)
                found[index] = self._known[key]
        cost = Cost(passes=1)
        fits = [i for i in range(len(keys)) if self.truncation == "error" or rendered.marks[i] < engine.context]
        todo = [i for i in fits if i not in found]
        if todo:
            ids, start = rendered.ids[: rendered.marks[fits[-1]] + 1], rendered.marks[todo[0]]
            marks = [rendered.marks[i] - start for i in todo]
            new, spent = await self._probabilities(engine, ids, start, marks)
            cost, found = cost + spent, found | dict(zip(todo, new, strict=True))
        for i in range(len(keys)):
            if i not in found:  # beyond the context
                end = rendered.marks[i] + 1
                window = rendered.ids[end - engine.context : end]
                (found[i],), spent = await self._probabilities(engine, window, len(window) - 1, [0])
                cost += spent
        for i, key in enumerate(keys):
            self._known[key] = found[i]
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return [found[i] for i in range(len(keys))], cost

    async def _probabilities(
        self, engine: Engine, ids: tuple[int, ...], start: int, marks: Sequence[int]
    ) -> tuple[list[float], Cost]:
        outputs = await engine.read(ids, start)
        tally = outputs.tally
        spent = Cost(read=tally.prefilled, reused=tally.reused, seconds=tally.seconds)
        return self.readout.probabilities(outputs.values[list(marks)]), spent


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    vocabulary: Vocabulary


def _keys(rendered: Rendered) -> list[bytes]:
    """For each mark a digest of the ids up to it."""
    total, keys, at = blake2b(digest_size=16), [], 0
    for mark in rendered.marks:
        total.update(array("q", rendered.ids[at : mark + 1]).tobytes())
        keys.append(total.digest())
        at = mark + 1
    return keys
