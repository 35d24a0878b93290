"""What `python -m verifiers.check verifier=...` composes: problems, solutions of the policy, the verifier's laws."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.command import run
from experiments.item import cut
from experiments.parts import Parts, under
from experiments.paths import beginnings, paths
from search.errors import ConfigError
from search.ports import Binds
from verifiers.check import Finding, Speed, examine, merged, told

ITEMS = 3  # problems, unless `limit` says otherwise
PATHS = 2  # solutions of each, the first one greedy


def check(composed: DictConfig, arguments: Sequence[str]) -> int:
    """Examines the verifier and prints what was found; the exit status: 1 if a law is broken."""
    settings: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)
    parts = Parts.of(settings)
    findings, speeds, count = asyncio.run(
        _check(parts, ITEMS if settings["limit"] is None else settings["limit"], settings["offset"])
    )
    sys.stdout.write(f"{parts.verifier!r}\n{count} prefixes\n{told(findings, speeds)}\n")
    return 0 if all(each.holds for each in findings) else 1


async def _check(parts: Parts, limit: int, offset: int) -> tuple[list[Finding], list[Speed], int]:
    if parts.verifier is None:
        raise ConfigError("verifier", None, "give the verifier to check")
    every, speeds, count = [], [], 0
    async with AsyncExitStack() as stack:
        for name in ("task", "policy", "verifier"):
            part: Any = getattr(parts, name)
            if hasattr(part, "__aenter__"):
                try:
                    await stack.enter_async_context(part)
                except ConfigError as error:
                    raise under(name, error) from error
        for item in cut(parts.task.items(), limit, offset):
            verifier = parts.verifier.bind(item) if isinstance(parts.verifier, Binds) else parts.verifier
            found = [prefix for path in await paths(parts, item, PATHS, greedy=True) for prefix in beginnings(path)]
            different = list({prefix.digest: prefix for prefix in found}.values())
            if len(different) < 2:
                continue
            findings, speed = await examine(verifier, different)
            every.append(findings)
            speeds += [speed] if speed else []
            count += len(different)
    if not every:
        raise ConfigError(
            "policy", parts.policy, "it writes no solutions of two steps to judge: take another, or steps="
        )
    return merged(every), speeds, count


def main() -> None:
    """Reads the command line."""
    sys.exit(run(check, sys.argv[1:]))


if __name__ == "__main__":
    main()
