"""What the processes of a run took, for plans of larger ones (`experiments.plan`)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol, runtime_checkable

from experiments.rows import Row
from policies.pool.fronts import Pooled
from search.ports import ability


@runtime_checkable
class Paced(Protocol):
    """A part that knows what its model's steps took."""

    def pace(self) -> dict[str, Any]:
        """See `policies.engine.pace.Pace.told`."""
        ...


class Watch:
    """Begins with the first item of a run.

    Args:
        known: rows that were there before.
    """

    def __init__(self, known: Collection[Any]):
        self._known = frozenset(known)
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def told(self, parts: Mapping[str, Any], rows: Mapping[Any, Row]) -> dict[str, Any]:
        """Plain values: `cores` of this machine, the driver's seconds and requests, those that requests were away
        at the replicas of pools, and what each replica tells.

        Where models run in the driver's process, their steps are not the driver's seconds.
        """
        wall, processor = time.perf_counter() - self._wall, time.process_time() - self._processor
        paces = {name: _paces(part) for name, part in parts.items()}
        for told in (told for each in paces.values() for told in each if told["process"] == os.getpid()):
            processor -= told["sums"][-1][-1] if told["alone"] else 0.0
        new = [row.cost for key, row in rows.items() if key not in self._known]
        requests = sum(cost.policy_calls + cost.passes for cost in new)
        driver = {"processor": processor, "wall": wall, "requests": requests, "process": os.getpid()}
        pools = {name: part.counters for name, part in parts.items() if isinstance(part, Pooled)}
        away = {name: {"seconds": each.away, "items": each.items} for name, each in pools.items()}
        return {"cores": cores(), "driver": driver, "away": away, **paces}


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _paces(part: Any) -> list[dict[str, Any]]:
    if isinstance(part, Pooled):
        return part.paces()
    paced = ability(part, Paced)
    return [] if paced is None else [paced.pace()]
