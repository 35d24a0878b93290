"""Pools on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.pool.home import Build
from policies.pool.hosting import Hosting
from policies.pool.process import Process
from policies.pool.replica import Inline, Replica, Thread
from search.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Local(Hosting):
    """Replicas in processes of this machine, in threads, or in the caller's own event loop.

    Attributes:
        workers: "process": killable, the only kind that uses several processors for a part that computes in Python;
            "thread"; "inline": for parts that compute elsewhere.
        environment: of each process; "{slot}" stands for its number, as in CUDA_VISIBLE_DEVICES: "{slot}".
    """

    workers: str = "process"
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers not in ("process", "thread", "inline"):
            raise ConfigError("workers", self.workers, "give process, thread or inline")
        if self.environment and self.workers != "process":
            raise ConfigError("environment", dict(self.environment), "only processes have one of their own")

    def replica(self, build: Build, slot: int) -> Replica:
        if self.workers == "inline":
            return Inline(build, self.batch)
        if self.workers == "thread":
            return Thread(build, self.batch)
        return Process(build, self.batch, environment(self.environment, slot))


def environment(given: Mapping[str, str], slot: int) -> dict[str, str]:
    """`given` for the replica of one slot."""
    return {name: str(value).replace("{slot}", str(slot)) for name, value in given.items()}
