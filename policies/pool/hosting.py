"""Where replicas live, and a policy or a verifier made of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from policies.pool.fronts import BindingVerifier, PooledPolicy, PooledVerifier
from policies.pool.home import Build
from policies.pool.pool import Pool
from policies.pool.replica import Replica
from policies.pool.rules import Rules
from search.ports import Binds


@dataclass(frozen=True, kw_only=True)
class Hosting(Rules):
    """The rules of a pool and the place of its replicas. The part is built there, by a `build` that can be pickled."""

    @abstractmethod
    def replica(self, build: Build, slot: int) -> Replica:
        """A replica that is not started yet."""

    def open(self) -> None:
        """Called before the first replica is made; raises ConfigError if such replicas cannot be had here."""

    def close(self) -> None:
        """Called after the last replica has ended, once per `open`."""

    def pool(self, build: Build) -> Pool:
        """Replicas of any part with a batch-in, batch-out method, asked as `await pool(port, items)`."""
        return Pool(lambda slot: self.replica(build, slot), self, self.open, self.close)

    def policy(self, build: Build) -> PooledPolicy:
        """A policy that several answer for."""
        return PooledPolicy(self, build)

    def verifier(self, build: Build) -> PooledVerifier:
        """A verifier that several answer for."""
        return (BindingVerifier if isinstance(build(), Binds) else PooledVerifier)(self, build)
