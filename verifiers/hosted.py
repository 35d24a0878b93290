"""Verifiers with a model of their own in this process: its folder, its engine, its life."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from policies.engine import load
from policies.engine.engine import Engine
from policies.engine.hosts import Hosts
from search.errors import VerifierError
from search.types import Prefix, Verdict


@dataclass(frozen=True)
class Hosted(Hosts, ABC):
    """What verifiers that run a model share.

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
