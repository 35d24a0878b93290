"""Any verifier on labelled steps: area under the curve, calibration error, F1 of the first error, one row per data set.

    python -m experiments.processbench verifier=prm task=arithmetic,countdown -m
    python -m experiments.processbench verifier=qwen_math_prm verifier.model=DIR labels=process_labels.jsonl.gz out=DIR

Without `labels` the policy's own samples of a task are judged by the task's exact step checker. A solution that the
verifier cannot read is counted in the column `unread` and in no figure; nothing stands in for its values.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.command import run
from experiments.item import cut
from experiments.labels import Labelled, from_file, judged
from experiments.parts import Parts, under
from experiments.paths import paths
from experiments.process import Scored, quality
from experiments.report import table
from search.errors import ConfigError, VerifierError
from search.ports import Binds, Verifier

HEAD = (
    "data",
    "solutions",
    "distinct",
    "faulty",
    "steps",
    "AUC",
    "within",
    "calib. err",
    "F1",
    "wrong",
    "right",
    "threshold",
    "unread",
)


def measure(composed: DictConfig, arguments: Sequence[str]) -> int:
    """Scores what the settings say and prints the table; the exit status."""
    settings: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)
    threshold = settings["threshold"]
    if threshold is not None and not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
        raise ConfigError("threshold", threshold, "give a number in [0, 1], or null")
    for name in ("samples", "concurrency"):
        if type(settings[name]) is not int or settings[name] < 1:
            raise ConfigError(name, settings[name], "give a whole number of at least 1")
    parts = Parts.of(settings)
    rows, unread = asyncio.run(_scored(parts, settings))
    names = sorted({*unread, *(row.dataset for row in rows)})
    if len(names) > 1:
        names.append("all")
    lines, figures = [], {}
    for name in names:
        chosen = [row for row in rows if name in (row.dataset, "all")]
        missing = sum(unread.values()) if name == "all" else unread[name]
        q = quality(chosen, threshold) if chosen else None
        figures[name] = {**(asdict(q) if q else {}), "unread": missing}
        numbers = (q.auc, q.within, q.error, q.f1, q.wrong, q.right, q.threshold) if q else (None,) * 7
        counts = (q.solutions, q.distinct, q.faulty, q.steps) if q else (0,) * 4
        lines.append([name, *map(str, counts), *("-" if x is None else f"{x:.3f}" for x in numbers), str(missing)])
    sys.stdout.write(table(HEAD, lines, text_columns=1) + "\n")
    if settings["out"]:
        _write(Path(settings["out"]), rows, figures)
    return 0


async def _scored(parts: Parts, settings: dict[str, Any]) -> tuple[list[Scored], Counter[str]]:
    """Every solution that could be read, in order, and how many of each data set could not."""
    verifier = parts.verifier
    if verifier is None:
        raise ConfigError("verifier", None, "give the verifier to measure")
    unread: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        for name in ("verifier",) if settings["labels"] else ("task", "policy", "verifier"):
            part: Any = getattr(parts, name)
            if hasattr(part, "__aenter__"):
                try:
                    await stack.enter_async_context(part)
                except ConfigError as error:
                    raise under(name, error) from error
        every = _chosen(settings) if settings["labels"] else await _sampled(parts, settings)
        gate = asyncio.Semaphore(settings["concurrency"])

        async def one(row: Labelled) -> Scored | None:
            async with gate:
                try:
                    return await _values(verifier, row)
                except VerifierError as error:
                    if not unread[row.dataset]:
                        sys.stderr.write(f"{row.dataset}: {error}\n")
                    unread[row.dataset] += 1
                    return None

        scored = await asyncio.gather(*map(one, every))
    return [row for row in scored if row is not None], unread


async def _values(verifier: Verifier, row: Labelled) -> Scored:
    bound = verifier.bind(row.item) if isinstance(verifier, Binds) else verifier
    (verdict,) = await bound.score([row.prefix])
    values = verdict.steps
    if not values:  # it judges prefixes as a whole: each beginning is asked about
        beginnings = [
            type(row.prefix)(row.prefix.prompt, row.prefix.steps[:n], row.prefix.question)
            for n in range(1, len(row.prefix.steps))
        ]
        values = (*(each.value for each in await bound.score(beginnings)), verdict.value)
    if len(values) != len(row.prefix.steps):
        raise VerifierError(f"{len(values)} step values came back for {len(row.prefix.steps)} steps")
    return Scored(row.dataset, row.key, tuple(values), row.first_error, row.prefix.text)


def _chosen(settings: dict[str, Any]) -> list[Labelled]:
    rows = from_file(Path(settings["labels"]).expanduser())
    wanted = settings["dataset"]
    names = dict.fromkeys(row.dataset for row in rows)
    if wanted is not None and wanted not in names:
        raise ConfigError("dataset", wanted, f"choose from {', '.join(names)}")
    # files come sorted by label: a limit must not take one kind only
    rows.sort(key=lambda row: blake2b(f"{row.key} {row.prefix.text}".encode(), digest_size=8).digest())
    each = ([row for row in rows if row.dataset == name] for name in names if wanted in (None, name))
    return [row for group in each for row in cut(group, settings["limit"], settings["offset"])]


async def _sampled(parts: Parts, settings: dict[str, Any]) -> list[Labelled]:
    items = cut(parts.task.items(), settings["limit"], settings["offset"])
    found = await asyncio.gather(*(paths(parts, item, settings["samples"]) for item in items))
    rows = (judged(item, path) for item, many in zip(items, found, strict=True) for path in many)
    return [row for row in rows if row is not None]


def _write(out: Path, rows: Sequence[Scored], figures: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    labelled = ((row, value, label) for row in rows for value, label in row.labelled)
    lines = [json.dumps({"score": v, "label": label, "dataset": row.dataset}) for row, v, label in labelled]
    (out / "steps.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "table.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Reads the command line."""
    sys.exit(run(measure, sys.argv[1:], "processbench"))


if __name__ == "__main__":
    main()
