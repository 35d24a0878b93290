"""Verifiers with a model of their own in this process: its folder, its engine, its life."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from policies.engine import load
from policies.engine.engine import Engine
from search.errors import ConfigError, VerifierError
from search.types import Prefix, Verdict


@dataclass(frozen=True)
class Hosted(ABC):
    """What verifiers that run a model share. Built without the weights; `async with` loads them.

    Attributes:
        model: folder of the model.
        dtype, device, memory, threads, max_context: as in `policies.embedded.Embedded`.
    """

    model: str
    dtype: str = "float32"
    device: str = "cpu"
    memory: str | int = "512MB"
    threads: int | None = None
    max_context: int | None = None
    _loaded: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in load.DTYPES:
            raise ConfigError("dtype", self.dtype, f"give one of {', '.join(load.DTYPES)}")
        load.size_in_bytes(self.memory)

    async def __aenter__(self) -> Self:
        if self._loaded:
            raise ConfigError("model", self.model, "it is loaded already: enter it once")
        loaded = await asyncio.to_thread(self._load)
        loaded.engine.start()
        self._loaded.append(loaded)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loaded = self._loaded.pop()
        self._forget()
        await self._close(loaded.engine)

    async def _close(self, engine: Engine) -> None:
        await asyncio.to_thread(engine.close)

    @abstractmethod
    def _load(self) -> Any:
        """What it works with; has an `engine` that is not started yet."""

    @abstractmethod
    def _forget(self) -> None:
        """Drops what was remembered of what it read."""

    def _engine(self, model: load.Model) -> Engine:
        return Engine(model, load.size_in_bytes(self.memory), context=self.max_context, threads=self.threads)

    @property
    def _ready(self) -> Any:
        if not self._loaded:
            raise VerifierError(f"{self.model} is not loaded: use it inside `async with`")
        return self._loaded[0]

    @property
    def engine(self) -> Engine:
        """The running engine."""
        return self._ready.engine

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, the tokenizer and every setting that shapes a verdict; needs no loading."""
        path = Path(self.model)
        load.settings(path)
        return f"{type(self).__name__.lower()}:{load.digest(path, *map(str, self._shaping()))}"

    @abstractmethod
    def _shaping(self) -> tuple[object, ...]:
        """The settings that shape a verdict."""

    async def score(self, prefixes: Sequence[Prefix]) -> Sequence[Verdict]:
        """One verdict per prefix, in order; only what was not read before is computed.

        Raises:
            VerifierError: a prefix cannot be read (other vocabulary, no question, too long), or not loaded.
        """
        results = await asyncio.gather(*map(self._score, prefixes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Verdict)]

    @abstractmethod
    async def _score(self, prefix: Prefix) -> Verdict:
        """The judgement of one prefix."""
