"""Parts that have to be opened before use and closed after it: policies and verifiers inside a verifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast


@dataclass(frozen=True)
class Opens(ABC):
    """A verifier that opens its parts when it is entered, each once, and closes them when it is left."""

    _stack: AsyncExitStack = field(default_factory=AsyncExitStack, init=False, repr=False, compare=False, kw_only=True)

    async def __aenter__(self) -> Self:
        entered: list[object] = []
        try:
            for part in self._parts():
                if hasattr(part, "__aenter__") and not any(part is other for other in entered):
                    entered.append(part)
                    await self._stack.enter_async_context(cast(AbstractAsyncContextManager[object], part))
        except BaseException:
            await self._stack.aclose()  # what was opened before the one that failed
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @abstractmethod
    def _parts(self) -> Iterable[object]:
        """What it opens, in order."""
