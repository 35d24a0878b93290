"""A verifier that also judges bare prompts: how likely one sample is to be right, by the policy's own hidden state."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.trial import agree
from search.errors import ConfigError, VerifierError
from search.ports import Binds, Describes, Verifier
from search.types import Cost, Prefix, Verdict
from verifiers.opens import Opens
from verifiers.probe import Fitted


@dataclass(frozen=True)
class States:
    """Last hidden states (after the final norm) of a language model, at the end of given ids.

    Attributes:
        model: folder of the policy; it is loaded here, beside the policy itself.
        dtype, device, memory, threads: as in `policies.embedded.Embedded`.
    """

    model: str
    dtype: str = "float32"
    device: str = "cpu"
    memory: str | int = "64MB"
    threads: int | None = None
    _engine: list[Engine] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in load.DTYPES:
            raise ConfigError("dtype", self.dtype, f"give one of {', '.join(load.DTYPES)}")
        load.size_in_bytes(self.memory)

    async def __aenter__(self) -> Self:
        if self._engine:
            raise ConfigError("model", self.model, "it is loaded already: enter it once")
        engine = await asyncio.to_thread(self._load)
        engine.start()
        self._engine.append(engine)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._engine.pop().close)

    def _load(self) -> Engine:
        model = load.language_model(Path(self.model), self.dtype, self.device)
        agree(model, self.model)
        bare = replace(model, head=torch.nn.Identity())  # what the engine reads is then the state itself
        return Engine(bare, load.size_in_bytes(self.memory), threads=self.threads)

    @cached_property
    def fingerprint(self) -> str:
        """Of the folder; needs no loading."""
        load.settings(Path(self.model))
        return f"states:{load.digest(Path(self.model))}"

    async def of(self, ids: Sequence[int]) -> tuple[tuple[float, ...], Cost]:
        """The state at the last of `ids`, one number per dimension, and what reading took."""
        if not self._engine:
            raise VerifierError(f"{self.model} is not loaded: use it inside `async with`")
        if not ids:
            raise VerifierError("a prompt without ids cannot be read")
        outputs = await self._engine[0].read(ids, len(ids) - 1)
        tally = outputs.tally
        cost = Cost(passes=1, read=tally.prefilled, reused=tally.reused, seconds=tally.seconds)
        return tuple(outputs.values[-1].tolist()), cost


@dataclass(frozen=True)
class Prospect(Opens):
    """A bare prompt is worth the probability that one sample is right; everything else is left to another verifier.

    As in Damani et al. 2025 (arXiv:2410.04707) a probe on the policy's hidden state at the end of the prompt; for
    `AdaptiveBestOfK` with `predict=None`.

    Attributes:
        verifier: judges prefixes that have steps; may itself need the item (`search.ports.Binds`).
        states: reads the hidden states of the policy the probe was fitted for.
        file: what `python -m experiments.probe --features state` wrote.

    Raises:
        ConfigError: when built, if there is no such file, or it reads text; on entry, if it is of another model.
    """

    verifier: Verifier | Binds
    states: States
    file: str

    def __post_init__(self) -> None:
        if self.fitted.features != "state":
            raise ConfigError("file", self.file, "it reads text: use it as search.predict")

    @cached_property
    def fitted(self) -> Fitted:
        """The file's."""
        return Fitted.read(self.file)

    async def __aenter__(self) -> Self:
        if self.fitted.model != self.states.fingerprint:
            raise ConfigError("file", self.file, f"it was fitted for another model than {self.states.model}")
        return await super().__aenter__()

    def _parts(self) -> tuple[object, ...]:
        return (self.verifier, self.states)

    @property
    def fingerprint(self) -> str:
        inner = self.verifier.fingerprint if isinstance(self.verifier, Describes) else repr(self.verifier)
        return f"prospect:{self.fitted!r}:{self.states.fingerprint}:{inner}"

    def bind(self, item: Any) -> Verifier:
        """The verifier for one item."""
        return _Bound(self, self.verifier.bind(item) if isinstance(self.verifier, Binds) else self.verifier)


@dataclass(frozen=True)
class _Bound:
    """`Prospect` for one item."""

    prospect: Prospect
    verifier: Verifier

    @property
    def fingerprint(self) -> str:
        return self.prospect.fingerprint

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        begun = [prefix for prefix in prefixes if prefix.steps]
        verdicts = await self.verifier.score(begun) if begun else []
        if len(verdicts) != len(begun):
            raise VerifierError(f"{len(verdicts)} verdicts came back for {len(begun)} prefixes")
        rest = iter(verdicts)
        return [next(rest) if prefix.steps else await self._bare(prefix) for prefix in prefixes]

    async def _bare(self, prefix: Prefix) -> Verdict:
        state, cost = await self.prospect.states.of(prefix.prompt.tokens)
        return Verdict(self.prospect.fitted.success(state), (), cost)
