"""Pools on a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.pool import cluster
from policies.pool.actor import Actor
from policies.pool.home import Build
from policies.pool.hosting import Hosting
from policies.pool.local import environment
from policies.pool.replica import Replica
from search.errors import ConfigError

GROUPS = {"pack": "PACK", "strict_pack": "STRICT_PACK", "strict_spread": "STRICT_SPREAD"}


@dataclass(frozen=True, kw_only=True)
class Ray(Hosting):
    """Replicas as Ray actors.

    Attributes:
        address: of the cluster, "host:port" or "ray://host:port"; "local" starts one here; None takes RAY_ADDRESS or
            starts one. A connection that is already there is used as it is.
        cpus, gpus: of one replica; fractions share a device.
        memory: bytes of one replica; None for no reservation.
        resources: others, by Ray's names.
        placement: "spread" over nodes as far as possible; "pack", "strict_pack", "strict_spread" reserve room for all
            replicas beforehand (a placement group); "default" leaves it to Ray.
        environment: of each actor's process; "{slot}" stands for its number.
        ports: of the nodes, first and last of a range, where actors listen for the driver; None for any that is free.
        runtime: more of Ray's runtime environment: working_dir, pip ...
        init: more of `ray.init`: num_cpus, object_store_memory ...
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    placement: str = "spread"
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[int] | None = None
    runtime: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, Any] = field(default_factory=dict)
    _groups: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.placement not in ("default", "spread", *GROUPS):
            raise ConfigError("placement", self.placement, f"give default, spread, {', '.join(GROUPS)}")
        for name in ("cpus", "gpus"):
            if not getattr(self, name) >= 0:
                raise ConfigError(name, getattr(self, name), "give a number of at least 0")
        if self.ports is not None and not _range(self.ports):
            raise ConfigError("ports", self.ports, "give first and last of a range, as [20000,20999]")

    @property
    def bundle(self) -> dict[str, float]:
        """What one replica takes, by Ray's names."""
        sizes = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory or 0), **self.resources}
        return {name: amount for name, amount in sizes.items() if amount}

    def open(self) -> None:
        cluster.devices(self.address, self.init, self.replicas, self.gpus)
        cluster.join(self.address, self.init)
        try:
            cluster.afford(self.replicas, self.bundle)
        except ConfigError:
            cluster.leave()
            raise

    def close(self) -> None:
        import ray

        while self._groups:
            ray.util.remove_placement_group(self._groups.pop())
        cluster.leave()

    def replica(self, build: Build, slot: int) -> Replica:
        return Actor(build, self.batch, lambda: self._options(slot), self.ports)

    def _options(self, slot: int) -> dict[str, Any]:
        variables = environment(self.environment, slot)
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "resources": dict(self.resources),
        }
        if variables or self.runtime:  # it takes Ray a while to make one
            options["runtime_env"] = {**self.runtime, "env_vars": {**self.runtime.get("env_vars", {}), **variables}}
        if self.memory:
            options["memory"] = self.memory
        if self.placement in GROUPS:
            options["scheduling_strategy"] = self._reserved(slot)
        elif self.placement == "spread":
            options["scheduling_strategy"] = "SPREAD"
        return options

    def _reserved(self, slot: int) -> Any:
        """A place in the placement group, which is made for the first replica that asks."""
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if not self._groups:
            bundles = [self.bundle or {"CPU": 0.001}] * (self.most or self.replicas)
            self._groups.append(placement_group(bundles, GROUPS[self.placement]))
        return PlacementGroupSchedulingStrategy(self._groups[0], placement_group_bundle_index=slot)


def _range(ports: Any) -> bool:
    """Whether these are the first and the last of some ports."""
    two = isinstance(ports, Sequence) and len(ports) == 2 and all(isinstance(port, int) for port in ports)
    return two and 0 < ports[0] <= ports[1] < 1 << 16
