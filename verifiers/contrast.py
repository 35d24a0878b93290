"""The contrastive reward of SC-MCTS*: where a strong and a weak language model part, the strong one knows something."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import torch

from policies.engine import load
from policies.engine.calls import Outputs, Tally
from search.errors import ConfigError, VerifierError
from search.types import Cost, Prefix, Verdict
from verifiers.combine import HOW
from verifiers.reading import Layout, Reading


class Terms(NamedTuple):
    """What was read of one step, as means over its tokens (nats); 0 for a step without tokens.

    Attributes:
        likelihood: log-probability under the expert, at most 0.
        divergence: Jensen-Shannon divergence of the two models' next-token distributions, in [0, ln 2].
    """

    likelihood: float
    divergence: float


def jensen_shannon(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The divergence (nats, in [0, ln 2]) of the distributions with logits `a` and `b`, over the last dimension."""
    p, q = a.double().log_softmax(-1), b.double().log_softmax(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    divergence = ((p.exp() * (p - middle)).sum(-1) + (q.exp() * (q - middle)).sum(-1)) / 2
    return divergence.clamp(0.0, math.log(2))


@dataclass(frozen=True)
class Contrast(Reading):
    """Reward of a step = sigmoid(sum of weight * (term - mean) / deviation over the terms of `Terms`).

    After SC-MCTS* (Gao et al. 2024, arXiv:2410.01707), whose method we know from its abstract and published code.
    There the terms are sums over the tokens of an action, here means, so that long steps are not worse for it; the
    published code takes the two Kullback-Leibler divergences from the mixture, here it is the textbook divergence,
    from each model to the mixture, which has a bound; the statistics of the terms are fitted in advance on given
    prefixes (`fitted`), of one cluster, and not updated on the way, which would make scores depend on the schedule.
    The third term of the paper, the model's own verdict in a word, is left out. A step's value never changes as the
    prefix grows.

    The expert (`model`) and the amateur must have one vocabulary. Both read in this process, each only what it has not
    read before; a pass is one reading by both, `read` counts the tokens of both.

    Attributes:
        amateur: folder of the weaker language model.
        likelihood, divergence: mean and standard deviation (above 0) of each term.
        weights: of the two terms.
        how: how the rewards of the steps become the value of a prefix: last, min, mean or prod. A prefix without
            steps has value 1.

    Raises:
        ConfigError: on entry, if a folder is no language model or the vocabularies differ; when built, if a setting
            is out of range.
        VerifierError: from `score`, as `Reading.score`.
    """

    amateur: str = ""
    likelihood: tuple[float, float] = (0.0, 1.0)
    divergence: tuple[float, float] = (0.0, 1.0)
    weights: tuple[float, float] = (1.0, 1.0)
    how: str = "mean"
    _weaker: list[_Weaker] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.amateur:
            raise ConfigError("amateur", self.amateur, "give the folder of a weaker language model")
        for name in ("likelihood", "divergence", "weights"):
            object.__setattr__(self, name, pair := tuple(getattr(self, name)))
            if len(pair) != 2 or not all(map(math.isfinite, pair)) or (name != "weights" and pair[1] <= 0):
                wanted = "two numbers" if name == "weights" else "a mean and a standard deviation above 0"
                raise ConfigError(name, pair, f"give {wanted}")
        if self.how not in HOW:
            raise ConfigError("how", self.how, f"give one of {', '.join(HOW)}")

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        settings = {name: getattr(self, name) for name in _SHARED}
        weaker = _Weaker(self.amateur, **settings)
        try:
            await weaker.__aenter__()
            self._weaker.append(weaker)
            if weaker._ready.vocabulary.texts != self._ready.vocabulary.texts:
                raise ConfigError("amateur", self.amateur, f"its vocabulary is not that of {self.model}")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._weaker:
                await self._weaker.pop().__aexit__(kind, error, trace)
        finally:
            await super().__aexit__(kind, error, trace)

    def _shaping(self) -> tuple[object, ...]:
        weaker = load.digest(Path(self.amateur))
        return (*super()._shaping(), weaker, self.likelihood, self.divergence, self.weights, self.how)

    def _weights(self, path: Path) -> load.Model:
        return load.language_model(path, self.dtype, self.device)

    async def fitted(self, prefixes: Iterable[Prefix]) -> Contrast:
        """The same with the statistics of the steps of `prefixes`, which hold at least two; use it while loaded."""
        terms = [term for prefix in prefixes for term in (await self._values(self._ready.layout(prefix), 0))[0]]
        if len(terms) < 2:
            raise VerifierError(f"statistics take at least 2 steps, and there are {len(terms)}")
        likelihoods, divergences = ([term[i] for term in terms] for i in range(2))
        return replace(self, likelihood=_statistics(likelihoods), divergence=_statistics(divergences))

    async def _values(self, layout: Layout, known: int) -> tuple[tuple[Terms, ...], Outputs | None]:
        begin = layout.bounds[known]
        if begin == len(layout.ids):
            return (Terms(0.0, 0.0),) * (len(layout.marks) - known), None
        weaker = self._weaker[0].engine
        strong, weak = await asyncio.gather(*(e.read(layout.ids, begin - 1) for e in (self.engine, weaker)))
        said = torch.tensor(layout.ids[begin:])[:, None]
        likelihoods = strong.values[:-1].log_softmax(-1).gather(-1, said)[:, 0].tolist()
        divergences = jensen_shannon(strong.values[:-1], weak.values[:-1]).tolist()
        spans = list(pairwise(bound - begin for bound in layout.bounds[known:]))
        terms = tuple(Terms(_mean(likelihoods[a:b]), _mean(divergences[a:b])) for a, b in spans)
        both = (strong.tally, weak.tally)
        tally = Tally(
            *(sum(getattr(t, name) for t in both) for name in ("prefilled", "reused", "generated", "seconds"))
        )
        return terms, Outputs(strong.values, tally)

    def _verdict(self, prefix: Prefix, values: tuple[Terms, ...], cost: Cost) -> Verdict:
        rewards = tuple(map(self._reward, values))
        return Verdict(HOW[self.how](rewards) if rewards else 1.0, rewards, cost)

    def _reward(self, terms: Terms) -> float:
        scales = (self.likelihood, self.divergence)
        x = math.fsum(
            weight * (term - mean) / deviation
            for weight, term, (mean, deviation) in zip(self.weights, terms, scales, strict=True)
        )
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


@dataclass(frozen=True)
class _Weaker(Reading):
    """The amateur: only its engine is used."""

    def _weights(self, path: Path) -> load.Model:
        return load.language_model(path, self.dtype, self.device)

    async def _values(self, layout: Layout, known: int) -> tuple[tuple[Terms, ...], Outputs | None]:
        raise VerifierError("the amateur judges nothing by itself")

    def _verdict(self, prefix: Prefix, values: tuple[Terms, ...], cost: Cost) -> Verdict:
        raise VerifierError("the amateur judges nothing by itself")


_SHARED = ("ids", "separator", "dtype", "device", "memory", "threads", "max_context")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _statistics(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; deviation 1 where all values are the same, so that nothing is divided by 0."""
    return statistics.fmean(values), statistics.pstdev(values) or 1.0
