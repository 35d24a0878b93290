"""The Ray cluster replicas live on: started or joined once, however many pools use it; refusals in one sentence."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from search.errors import ConfigError

REACH = 5.0  # seconds to reach the head node
COLD = 8.0  # seconds for nodes of a cluster that starts to come up with what was asked for


@dataclass
class _Use:
    """How many pools use the cluster, and whether we began it."""

    pools: int = 0
    ours: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


_use = _Use()


def join(address: str | None, settings: Mapping[str, Any]) -> None:
    """Connects to the cluster at `address`; "local" starts one, None takes RAY_ADDRESS or starts one.

    Raises ConfigError where Ray is not installed or nothing answers at the address. To be paired with `leave`.
    """
    installed()
    import ray

    if not ray.is_initialized():
        address = "local" if _local(address) else address or os.environ["RAY_ADDRESS"]
        if address != "local":
            reach(address)
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
        joined = {"log_to_driver": False, "logging_level": logging.ERROR}
        before = os.environ.get("PYTHONPATH")
        if address == "local":  # what can be imported here can be in its actors, which are what this machine is for
            os.environ.setdefault("RAY_worker_niceness", "0")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            ray.init(address=address, **{**(quiet if address == "local" else joined), **settings})
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError("pool.address", address, f"Ray cannot be started or joined there ({said})") from error
        finally:
            os.environ.pop("PYTHONPATH", None)
            if before is not None:
                os.environ["PYTHONPATH"] = before
        _use.ours = True
    _use.pools += 1


def installed() -> None:
    """Raises ConfigError where Ray is not installed."""
    if find_spec("ray") is None:
        raise ConfigError("pool", "ray", "Ray is not installed: pip install 'treewise[ray]', or take pool=local")


def devices(address: str | None, settings: Mapping[str, Any], replicas: int, gpus: float) -> None:
    """Raises ConfigError if a cluster that is to begin on this machine cannot have `gpus` for each of `replicas`."""
    installed()
    if not gpus or "num_gpus" in settings or not _local(address):
        return
    import torch

    if (there := torch.cuda.device_count()) < replicas * gpus:
        raise _short("gpus", gpus, replicas, there, "this machine")


def leave() -> None:
    """The last pool to leave ends the connection, and the cluster where it began with it."""
    _use.pools -= 1
    if not _use.pools and _use.ours:
        import ray

        ray.shutdown()
        _use.ours = False


def reach(address: str) -> None:
    """Raises ConfigError if nothing listens at host:port (or ray://host:port); Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise ConfigError("pool.address", address, "give host:port, ray://host:port, auto or local")
    try:
        socket.create_connection((host, int(port)), REACH).close()
    except OSError as error:
        remedy = f"no Ray cluster answers there ({error.strerror or error}): start one with `ray start --head`"
        raise ConfigError("pool.address", address, remedy) from error


def afford(replicas: int, each: Mapping[str, float]) -> None:
    """Raises ConfigError if the cluster does not have what `replicas` need together, after waiting a little."""
    import ray

    deadline = time.monotonic() + (0 if _use.ours else COLD)
    while True:
        there = ray.cluster_resources()
        short = {
            name: amount
            for name, amount in each.items()
            if amount and math.floor(there.get(name, 0) / amount + 1e-9) < replicas
        }
        if not short:
            return
        if time.monotonic() >= deadline:
            name, amount = next(iter(short.items()))
            field_ = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}.get(name, f"resources.{name}")
            raise _short(field_, amount, replicas, there.get(name, 0), "the cluster")
        time.sleep(0.5)


def _local(address: str | None) -> bool:
    """Whether a cluster of our own begins: nothing is said, here or in RAY_ADDRESS, of another one."""
    ray = sys.modules.get("ray")
    joined = ray is not None and ray.is_initialized()
    return not joined and (address or os.environ.get("RAY_ADDRESS") or "local") == "local"


def _short(field: str, amount: float, replicas: int, there: float, where: str) -> ConfigError:
    remedy = (
        f"{replicas} replicas need {replicas * amount:g} and {where} has {there:g}: ask for less, or fewer replicas"
    )
    return ConfigError(f"pool.{field}", amount, remedy)
