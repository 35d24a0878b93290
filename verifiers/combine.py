"""Verifiers made of verifiers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, cast

from search.errors import ConfigError, VerifierError
from search.ports import Binds, Describes, Verifier
from search.types import Cost, Prefix, Verdict
from search.waves import gather
from verifiers.curves import Curve, curve_of
from verifiers.opens import Opens

HOW: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
    "prod": math.prod,
}


@dataclass(frozen=True)
class Composed(Opens):
    """What verifiers made of others share: they open and close their parts, and bind them to an item where needed."""

    _holds: ClassVar[tuple[str, ...]]  # the fields with a verifier, or several

    def bind(self, item: Any) -> Self:
        """The same of its parts for one item; parts that need none stay as they are."""

        def bound(part: Any) -> Any:
            return part.bind(item) if isinstance(part, Binds) else part

        held: dict[str, Any] = {name: getattr(self, name) for name in self._holds}
        parts = {k: tuple(map(bound, v)) if isinstance(v, tuple) else bound(v) for k, v in held.items()}
        return replace(self, **cast(Any, parts))

    @property
    def fingerprint(self) -> str:
        parts = [described(part) for part in self._parts()]
        plain = [f.name for f in fields(self) if f.init and f.name not in self._holds]
        return f"{type(self).__name__.lower()}:{[getattr(self, name) for name in plain]}:{parts}"

    @abstractmethod
    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        """One verdict per prefix, in order."""

    def _parts(self) -> list[Verifier]:
        held = [getattr(self, name) for name in self._holds]
        return [part for value in held for part in (value if isinstance(value, tuple) else (value,))]


def described(part: object) -> str:
    """Its fingerprint, or what it prints as."""
    return part.fingerprint if isinstance(part, Describes) else repr(part)


async def asked(part: Verifier, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
    """Its verdicts; raises VerifierError unless there is one per prefix."""
    verdicts = await part.score(prefixes)
    if len(verdicts) != len(prefixes):
        raise VerifierError(f"{len(verdicts)} verdicts came back for {len(prefixes)} prefixes")
    return verdicts


@dataclass(frozen=True)
class Aggregate(Composed):
    """The value of a prefix from its step values: the last, the least, the mean, the product, or the latest few.

    The product and the least favour short solutions; the last forgets early errors that the verifier forgot
    (Snell et al. 2024, "Scaling LLM Test-Time Compute Optimally", appendix E; Zhang et al. 2025 compare them).

    Attributes:
        prm: a verifier that gives step values; its verdict on a prefix without steps stays as it is.
        how: last, min, mean or prod.
        window: only the latest so many steps count, at least 1; None takes all.

    Raises:
        ConfigError: `how` is something else, or `window` below 1.
        VerifierError: from `score`, when `prm` does not give one value per step.
    """

    prm: Verifier
    how: str = "last"
    window: int | None = None

    _holds: ClassVar[tuple[str, ...]] = ("prm",)

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ConfigError("how", self.how, f"give one of {', '.join(HOW)}")
        if self.window is not None and self.window < 1:
            raise ConfigError("window", self.window, "give a number of at least 1, or null for all steps")

    @property
    def fingerprint(self) -> str:
        window = "" if self.window is None else f"of {self.window}:"
        return f"aggregate:{self.how}:{window}{described(self.prm)}"

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        verdicts = await self.prm.score(prefixes)
        return [self._verdict(prefix, verdict) for prefix, verdict in zip(prefixes, verdicts, strict=True)]

    def _verdict(self, prefix: Prefix, verdict: Verdict) -> Verdict:
        if len(verdict.steps) != len(prefix.reply):
            raise VerifierError(f"{len(verdict.steps)} step values came back for {len(prefix.reply)} steps")
        latest = verdict.steps[-self.window :] if self.window else verdict.steps
        return replace(verdict, value=HOW[self.how](latest)) if latest else verdict


@dataclass(frozen=True)
class _Several(Composed):
    """Several verifiers, each asked about each prefix; step values are combined where all of them give some."""

    verifiers: tuple[Verifier, ...]

    _holds: ClassVar[tuple[str, ...]] = ("verifiers",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifiers", tuple(self.verifiers))
        if not self.verifiers:
            raise ConfigError("verifiers", [], "give at least one")

    @abstractmethod
    def _combined(self, values: Sequence[float]) -> float:
        """One value from one of each verifier."""

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        every = await gather(asked(part, prefixes) for part in self.verifiers)
        return [self._verdict([verdicts[i] for verdicts in every]) for i in range(len(prefixes))]

    def _verdict(self, verdicts: Sequence[Verdict]) -> Verdict:
        counts = {len(verdict.steps) for verdict in verdicts}
        if len(counts - {0}) > 1:
            raise VerifierError(f"the verifiers give different numbers of step values: {sorted(counts)}")
        steps = zip(*(verdict.steps for verdict in verdicts), strict=True) if 0 not in counts else ()
        cost = sum((verdict.cost for verdict in verdicts), Cost())
        value = self._combined([verdict.value for verdict in verdicts])
        return Verdict(value, tuple(map(self._combined, steps)), cost)


@dataclass(frozen=True)
class Weighted(_Several):
    """The weighted mean.

    Attributes:
        weights: one per verifier, at least 0, not all 0; they need not add up to 1. None weighs all alike.
    """

    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            return
        weights = tuple(map(float, self.weights))
        object.__setattr__(self, "weights", weights)
        if len(weights) != len(self.verifiers) or not (min(weights) >= 0 and 0 < math.fsum(weights) < math.inf):
            raise ConfigError("weights", weights, "give one number of at least 0 per verifier, not all of them 0")

    def _combined(self, values: Sequence[float]) -> float:
        weights = self.weights or (1.0,) * len(values)
        mean = math.fsum(w * x for w, x in zip(weights, values, strict=True)) / math.fsum(weights)
        return min(max(mean, min(values)), max(values))  # rounding must not leave the range


@dataclass(frozen=True)
class Product(_Several):
    """The product: the probability that all are right, if they err independently."""

    def _combined(self, values: Sequence[float]) -> float:
        return math.prod(values)


@dataclass(frozen=True)
class Least(_Several):
    """The least: what the most doubtful one says."""

    def _combined(self, values: Sequence[float]) -> float:
        return min(values)


@dataclass(frozen=True)
class Cascade(Composed):
    """A cheap verifier first; a dear one judges in its place what the cheap one is unsure of.

    Attributes:
        cheap, dear: the two.
        low, high: the cheap one is sure of values up to `low` and from `high` on; 0 <= low < high <= 1. What lies
            between gets the dear one's verdict, at the cost of both.
    """

    cheap: Verifier
    dear: Verifier
    low: float = 0.2
    high: float = 0.8

    _holds: ClassVar[tuple[str, ...]] = ("cheap", "dear")

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ConfigError("low", self.low, f"give numbers with 0 <= low < high <= 1; high is {self.high}")

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        first = await asked(self.cheap, prefixes)
        unsure = [i for i, verdict in enumerate(first) if self.low < verdict.value < self.high]
        second = await asked(self.dear, [prefixes[i] for i in unsure]) if unsure else []
        verdicts = list(first)
        for i, verdict in zip(unsure, second, strict=True):
            verdicts[i] = replace(verdict, cost=first[i].cost + verdict.cost)
        return verdicts


@dataclass(frozen=True)
class Rescaled(Composed):
    """Another scale: values and step values go through a curve, fitted on labelled traces (`verifiers.curves`).

    Attributes:
        verifier: whose values they are.
        curve: a curve, its kind and fields, or a file with a fitted one.
    """

    verifier: Verifier
    curve: Curve | Mapping[str, object] | str

    _holds: ClassVar[tuple[str, ...]] = ("verifier",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "curve", curve_of(self.curve))

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        bend = cast(Curve, self.curve)
        return [
            replace(verdict, value=bend(verdict.value), steps=tuple(map(bend, verdict.steps)))
            for verdict in await asked(self.verifier, prefixes)
        ]
