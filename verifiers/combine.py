"""Verifiers made of verifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self, cast

from search.errors import ConfigError, VerifierError
from search.ports import Describes, Verifier
from search.types import Prefix, Verdict

HOW: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "min": min,
    "mean": lambda values: math.fsum(values) / len(values),
    "prod": math.prod,
}


@dataclass(frozen=True)
class Aggregate:
    """The value of a prefix from its step values: the last, the least, the mean or the product.

    The product and the least favour short solutions; the last forgets early errors that the verifier forgot
    (Snell et al. 2024, "Scaling LLM Test-Time Compute Optimally", appendix E; Zhang et al. 2025 compare them).

    Attributes:
        prm: a verifier that gives step values; its verdict on a prefix without steps stays as it is.
        how: last, min, mean or prod.

    Raises:
        ConfigError: `how` is something else.
        VerifierError: from `score`, when `prm` does not give one value per step.
    """

    prm: Verifier
    how: str = "last"
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ConfigError("how", self.how, f"give one of {', '.join(HOW)}")

    async def __aenter__(self) -> Self:
        if hasattr(self.prm, "__aenter__"):
            await self._stack.enter_async_context(cast(AbstractAsyncContextManager[object], self.prm))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def fingerprint(self) -> str:
        inner = self.prm.fingerprint if isinstance(self.prm, Describes) else repr(self.prm)
        return f"aggregate:{self.how}:{inner}"

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        verdicts = await self.prm.score(prefixes)
        return [self._verdict(prefix, verdict) for prefix, verdict in zip(prefixes, verdicts, strict=True)]

    def _verdict(self, prefix: Prefix, verdict: Verdict) -> Verdict:
        if len(verdict.steps) != len(prefix.reply):
            raise VerifierError(f"{len(verdict.steps)} step values came back for {len(prefix.reply)} steps")
        return replace(verdict, value=HOW[self.how](verdict.steps)) if verdict.steps else verdict
