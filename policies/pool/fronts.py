"""Pools dressed as a policy and as a verifier, with the abilities of the part they are replicas of."""

from __future__ import annotations

import pickle
from asyncio import Future
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from policies.pool import port
from policies.pool.ahead import Ahead, Foresight
from policies.pool.home import Build
from policies.pool.pool import Pool
from policies.pool.rules import Counters
from search.ports import KeepsPrefixes, Likelihood, Verifier
from search.types import Prefix, Reply, Request, Segment, Verdict

if TYPE_CHECKING:
    from policies.pool.hosting import Hosting

ASKED = ("prompt", "vocabulary_size", "write", "turn", "text")  # abilities that are no coroutine


@runtime_checkable
class Fronts(Protocol):
    """A part that needs its weights for its answers only."""

    def front(self) -> Any:
        """The same part without its weights, with what abilities it has that need none."""
        ...


class Pooled:
    """What both have: a part that is only described here, the pool while it is entered, and abilities as `inner`.

    An ability is asked of the part itself where it has nothing to load, of its `front` where it has one, and of a
    replica otherwise.
    """

    def __init__(self, hosting: Hosting, build: Build):
        self.hosting, self.build = hosting, build
        self.part = build()
        self._pool: Pool | None = None
        self.inner = _abilities(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.part!r}, {self.hosting!r})"

    async def __aenter__(self) -> Self:
        self._pool = await self.hosting.pool(self.build).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.pool.__aexit__(kind, error, at)

    @property
    def pool(self) -> Pool:
        """The running pool; the last one after it was left."""
        if self._pool is None:
            raise RuntimeError(f"{self!r} is not running: use it inside `async with`")
        return self._pool

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return Counters() if self._pool is None else self._pool.counters

    def paces(self) -> list[Any]:
        """What each replica tells of its pace; [] for parts that do not (`policies.engine.hosts.Hosts.pace`)."""
        return self.pool.every("pace") if hasattr(type(self.part), "pace") else []


class PooledPolicy(Pooled):
    """A policy whose requests are answered by replicas."""

    def __init__(self, hosting: Hosting, build: Build):
        super().__init__(hosting, build)
        self._port = port.sample(hosting.affinity)
        self._foresight = Foresight(self)

    async def sample(self, requests: Sequence[Request]) -> list[Reply]:
        return await self.pool(self._port, requests)

    def begin(self, request: Request) -> Future[Any] | None:
        """The reply to come, if a replica has nothing to do (`Pool.begin`)."""
        return self.pool.begin(self._port, request)

    def foresee(self, seed: int) -> Ahead | None:
        """This policy for sessions of one seed, answers begun early (`policies.pool.ahead`); None where that is off."""
        return Ahead(self, self._foresight, seed) if self.hosting.ahead else None


class PooledVerifier(Pooled):
    """A verifier whose prefixes are judged by replicas."""

    def __init__(self, hosting: Hosting, build: Build):
        super().__init__(hosting, build)
        self._port = port.score(hosting.affinity)

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return await self.pool(self._port, prefixes)


class BindingVerifier(PooledVerifier):
    """One whose part needs the item it judges (`search.ports.Binds`)."""

    def bind(self, item: Any) -> Verifier:
        """The verifier for one item; the replicas bind it there."""
        return _Bound(self, pickle.dumps(item))


class _Bound:
    """A verifier of replicas for one item."""

    def __init__(self, front: PooledVerifier, binding: bytes):
        self.inner, self._binding = front, binding

    async def score(self, prefixes: Sequence[Prefix]) -> list[Verdict]:
        return await self.inner.pool(self.inner._port, prefixes, self._binding)


def _abilities(front: Pooled) -> Any:
    """An object with those optional abilities of the part, and no others: they are found by `isinstance`."""
    part = front.part
    methods: dict[str, Any] = {name: _asked(front, name) for name in ASKED if hasattr(type(part), name)}
    if isinstance(part, KeepsPrefixes):
        for name in ("retain", "release"):
            methods[name] = _told(front, name)
    if isinstance(part, Likelihood):
        methods["logprobs"] = _likelihood(front)
    if hasattr(type(part), "fingerprint"):  # its value may need files that are not here
        methods["fingerprint"] = property(lambda _: part.fingerprint)
    return type("Abilities", (), methods)()


def _asked(front: Pooled, name: str) -> Callable[..., Any]:
    without_weights: list[Any] = []

    def ask(_: object, *arguments: Any) -> Any:
        if not hasattr(front.part, "__aenter__"):
            return getattr(front.part, name)(*arguments)
        if isinstance(front.part, Fronts):
            if not without_weights:
                without_weights.append(front.part.front())
            return getattr(without_weights[0], name)(*arguments)
        return front.pool.ask(name, *arguments)

    return ask


def _told(front: Pooled, name: str) -> Callable[..., None]:
    def tell(_: object, prefix: Prefix) -> None:
        front.pool.tell(port.belongs(prefix, front.hosting.affinity), name, prefix)

    return tell


def _likelihood(front: Pooled) -> Callable[..., Any]:
    asked = port.logprobs(front.hosting.affinity)

    async def logprobs(_: object, prefixes: Sequence[Prefix], continuations: Sequence[Segment]) -> list[Any]:
        return await front.pool(asked, list(zip(prefixes, continuations, strict=True)))

    return logprobs
