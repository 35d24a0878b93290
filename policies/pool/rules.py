"""How a pool behaves, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from search.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Numbers of a pool; seconds are of wall time.

    Attributes:
        replicas: that are kept, at least 1.
        most: replicas while there is more to do than they can take; None for no more than `replicas`.
        rows: draws a replica has at once at most; what is more waits in the pool.
        queue: draws that may wait per replica; whoever brings more waits at the door.
        batch: items a replica's part gets in one call at most; None lets calls through as they come, for parts that
            batch continuously themselves.
        affinity: steps that count, beside the prompt, for where a prefix belongs (`policies.pool.port.belongs`).
        spill: draws that the replica an item belongs to may have above the one with the least.
        retries: times an item is tried again when a replica fails it, before that is its error.
        deadline: seconds for one call, after which the replica is taken for hung.
        start: seconds for a replica to be ready.
        health: seconds between two looks at all replicas, and for each to say that it lives.
        idle: seconds without work after which a replica above `replicas` is let go.
        ahead: a replica of a policy with fewer draws than this may begin what no search has asked for yet, see
            `policies.pool.ahead`: 0 for never, 1 for replicas that are idle, more for those that batch continuously.
    """

    replicas: int = 2
    most: int | None = None
    rows: int = 256
    queue: int = 1024
    batch: int | None = None
    affinity: int = 0
    spill: int = 64
    retries: int = 4
    deadline: float = 600.0
    start: float = 300.0
    health: float = 10.0
    idle: float = 60.0
    ahead: int = 0

    def __post_init__(self) -> None:
        for name in ("replicas", "rows", "queue", "batch", "most"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(name, value, "give a whole number of at least 1")
        for name in ("affinity", "spill", "retries", "ahead"):
            if getattr(self, name) < 0:
                raise ConfigError(name, getattr(self, name), "give a whole number of at least 0")
        for name in ("deadline", "start", "health", "idle"):
            if not getattr(self, name) > 0:
                raise ConfigError(name, getattr(self, name), "give a positive number of seconds")
        if self.most is not None and self.most < self.replicas:
            raise ConfigError("most", self.most, f"give at least the number of replicas, {self.replicas}, or null")

    def grows(self, replicas: int, pressure: float) -> bool:
        """Whether one more is wanted beside `replicas`: more than a replica's draws wait for each (pressure: draws)."""
        return replicas < (self.most or self.replicas) and pressure > self.rows

    def shrinks(self, replicas: int, load: int, idle: float) -> bool:
        """Whether the last of `replicas`, with `load` draws and `idle` seconds since its last call, may go."""
        return replicas > self.replicas and not load and idle > self.idle


@dataclass
class Counters:
    """What happened in a pool so far.

    Attributes:
        items: answered, each once.
        calls: of replicas, those that failed included.
        away: seconds that answered items were with replicas and on the way there and back, added up.
        spilled: items that went elsewhere than where they belong.
        again: times an item was tried again; its first answer, if there was one, was thrown away.
        lost_seconds: that calls had been at work when they were lost.
        lost_tokens: generated in answers that were thrown away; what a dead replica had generated is not known.
        replaced: replicas given up, by why: died, hung, garbage, faults, silent.
        grown, shrunk: replicas added and let go for the length of the queue.
        begun, used: items begun before they were asked for, and those of them that were.
        wasted_tokens: generated for the others, as far as their searches have ended.
    """

    items: int = 0
    calls: int = 0
    away: float = 0.0
    spilled: int = 0
    again: int = 0
    lost_seconds: float = 0.0
    lost_tokens: int = 0
    replaced: dict[str, int] = field(default_factory=dict)
    grown: int = 0
    shrunk: int = 0
    begun: int = 0
    used: int = 0
    wasted_tokens: int = 0

    def __str__(self) -> str:
        """For people, in a line."""
        said = [f"{self.items:,} requests in {self.calls:,} calls", f"{self.spilled:,} spilled over"]
        if self.replaced:
            why = ", ".join(f"{count} {name}" for name, count in sorted(self.replaced.items()))
            said.append(f"{sum(self.replaced.values())} replicas replaced ({why})")
        if self.again:
            said.append(f"{self.again:,} asked again ({self.lost_seconds:.1f} s and {self.lost_tokens:,} tokens lost)")
        if self.grown or self.shrunk:
            said.append(f"{self.grown} replicas added, {self.shrunk} let go")
        if self.begun:
            said.append(f"{self.begun:,} begun early, {self.used:,} of them asked for")
            said.append(f"{self.wasted_tokens:,} tokens for nothing")
        return ", ".join(said)
