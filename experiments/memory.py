"""The memory that the models of a run want, against what the machine has: said before anything is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.build import under
from policies.pool.fronts import Pooled
from policies.pool.local import Local
from search.errors import ConfigError

if TYPE_CHECKING:
    from policies.vllm.memory import Claim


class Wanted(NamedTuple):
    """What a part of the run wants: its name in the configuration, and the claim."""

    part: str
    claim: Claim


def plan(parts: Mapping[str, Any]) -> str | None:
    """Lines that say who takes what of which memory; None for a run without an engine of vLLM.

    Raises:
        ConfigError: it does not fit, or two models share a device of which one takes what it finds.
    """
    found = [(name, model) for name, part in parts.items() for model in _models(part)]
    if not any(hasattr(model, "claim") for _, model in found):
        return None
    wanted = [Wanted(name, _claim(name, model)) for name, model in found]
    lines = ["memory"]
    for name, claim in wanted:
        cache = "a share of the device" if claim.cache is None else _size(claim.cache)
        rest = f", process {_size(claim.rest)}" if claim.rest else ""
        lines.append(
            f"  {name}: {claim.model} on {claim.device}: weights {_size(claim.weights)}, keys and values {cache}{rest}"
        )
    for device in sorted({claim.device for _, claim in wanted}):
        mine = [claim for _, claim in wanted if claim.device == device]
        total, there = sum(claim.total for claim in mine), available(device)
        lines.append(f"  {device}: {_size(total)} wanted, {_size(there)} available")
        if len(mine) > 1 and any(claim.cache is None for claim in mine):
            raise ConfigError("memory", None, f"{len(mine)} models share the {device}: give each a size, such as 4GB")
        if total > there:
            named = ", ".join(f"{name} {_size(claim.total)}" for name, claim in wanted if claim.device == device)
            remedy = f"the models want {_size(total)} of the {device}'s {_size(there)} ({named}): give less memory"
            raise ConfigError("memory", _size(total), remedy)
    return "\n".join(lines)


def available(device: str) -> int:
    """Bytes that can be had now."""
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        return sum(torch.cuda.mem_get_info(i)[0] for i in range(count)) if torch.cuda.is_available() else 0
    info = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", info.read_text(), re.MULTILINE) if info.is_file() else None
    free = int(found[1]) << 10 if found else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([free, *_group()])


def _group() -> Sequence[int]:
    """Bytes that a control group leaves to this process; () where there is none or no limit."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return (int(limit.read_text()) - int(used.read_text()),)
    except (OSError, ValueError):
        return ()


def _models(part: Any) -> Iterator[Any]:
    """Those a part is or wraps, in this process or in replicas on this machine."""
    if isinstance(part, Pooled):
        copies = part.hosting.replicas if isinstance(part.hosting, Local) else 0  # an actor may be anywhere
        for model in _models(part.part):
            yield from [model] * copies
    elif hasattr(part, "claim") or all(hasattr(part, name) for name in ("model", "dtype", "device", "memory")):
        yield part
    elif isinstance(part, Mapping):
        for each in part.values():
            yield from _models(each)
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for each in part:
            yield from _models(each)
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            yield from _models(getattr(part, field.name))


def _claim(name: str, model: Any) -> Claim:
    """Of an engine of vLLM by its own word, of an embedded one by its settings."""
    from policies.engine import load
    from policies.vllm.memory import Claim, weights

    try:
        if hasattr(model, "claim"):
            claim: Claim = model.claim()
            return claim
        path = Path(model.model)
        load.settings(path)
        cache, device = load.size_in_bytes(model.memory), str(model.device).partition(":")[0]
        return Claim(model.model, weights(path, model.dtype), cache, device=device)
    except ConfigError as error:
        raise under(name, error) from error


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
