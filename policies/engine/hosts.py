"""The life of whoever runs a model in an engine of its own: a policy, a verifier."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from types import TracebackType
from typing import Any, Self

from policies.engine import load
from policies.engine.engine import Engine
from search.errors import ConfigError


class Hosts:
    """Built without the weights; `async with` loads them, and closes the engine at the end.

    Attributes:
        model: folder of the model.
        dtype: one of `load.DTYPES`.
        memory: for keys and values, as `load.size_in_bytes` reads it.
    """

    model: str
    dtype: str
    memory: str | int
    _loaded: list[Any]  # of one, while it is entered; has an `engine`

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

    def pace(self) -> dict[str, Any]:
        """What its engine's steps took up to now (`policies.engine.pace.Pace.told`)."""
        told: dict[str, Any] = self._loaded[0].engine.pace.told()
        return told

    async def _close(self, engine: Engine) -> None:
        await asyncio.to_thread(engine.close)

    def _forget(self) -> None:
        """Drops what was remembered of what it read."""

    @abstractmethod
    def _load(self) -> Any:
        """What it works with; has an `engine` that is not started yet."""
