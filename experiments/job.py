"""One run of the main job: settings in, a run folder and a table out."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments import provenance
from experiments.announce import announce
from experiments.item import Item, cut, shard
from experiments.models import happened
from experiments.parts import Parts, under
from experiments.progress import Progress
from experiments.runner import Runner
from experiments.store import Store, opened
from experiments.summary import show
from search.errors import ConfigError

GROUPS = ("policy", "verifier", "roles", "task", "steps", "budget", "trace", "select", "search", "pool")
FIELDS = (
    "seed",
    "limit",
    "offset",
    "question",
    "out",
    "data",
    "read_ahead",
    "concurrency",
    "retry_errors",
    "shard",
    "dry_run",
)


def solve(composed: DictConfig, arguments: Sequence[str]) -> int:
    """Runs what `composed` says and prints the result; the exit status: 0 when every item has a row, else 1.

    Args:
        composed: the whole configuration, as hydra made it.
        arguments: the command line, to tell how a run is resumed.

    Raises:
        ConfigError: a setting is wrong, the models cannot be loaded, or the folder holds another run.
    """
    settings: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)
    chosen = HydraConfig.get().runtime.choices
    for name in settings.keys() - {*GROUPS, *FIELDS}:
        raise ConfigError(name, settings[name], f"there is no such option; choose from {', '.join((*GROUPS, *FIELDS))}")
    parts = Parts.of(settings)
    concurrency = _whole(settings, "concurrency", 1)
    for name in ("retry_errors", "dry_run"):
        if type(settings[name]) is not bool:
            raise ConfigError(name, settings[name], "give true or false")
    try:
        every = [_asked(settings["question"], chosen["task"])] if settings["question"] else _items(parts, settings)
    except ConfigError as error:
        if settings["dry_run"] and error.field in ("data", "task.data"):
            return announce(parts, settings, None)
        raise
    limit = None if settings["limit"] is None else _whole(settings, "limit", 1)
    items = shard(cut(every, limit, _whole(settings, "offset", 0)), settings["shard"])
    if settings["dry_run"]:
        return announce(parts, settings, len(items))
    folder = _folder(settings["out"], f"{chosen['task']}-{chosen['search']}")
    with opened(folder) as store:
        store.check(settings, "configuration")
        if settings["retry_errors"]:
            store.forget_errors()

        def begin(fingerprints: Mapping[str, str]) -> None:
            store.begin({"configuration": settings, "fingerprints": fingerprints, **provenance.start(arguments)})

        names = [item.id for item in every]
        runner = Runner(parts, store, items, names, chosen["search"], concurrency, begin)
        rows = len(items) * len(parts.seeds)
        progress = Progress(rows, done=rows - sum(1 for _ in runner.todo()))
        try:
            asyncio.run(runner(progress))
        except ConfigError:
            store.discard()
            raise
        except KeyboardInterrupt:
            _say_how_to_go_on(store, progress, arguments)
            raise SystemExit(1) from None
        if pools := happened(parts):
            store.note("pools", {name: asdict(counters) for name, counters in pools.items()})
            sys.stdout.write("".join(f"\n{name} pool: {counters}" for name, counters in pools.items()) + "\n")
        show(store, [(item, seed) for item in items for seed in parts.seeds], progress)
        return 1 if any(True for _ in runner.todo()) else 0


def _items(parts: Parts, settings: Mapping[str, Any]) -> list[Item]:
    try:
        items = list(parts.task.items())
    except ConfigError as error:
        raise error if error.field in settings else under("task", error) from error
    for name, times in Counter(item.id for item in items).items():
        if times > 1:
            raise ConfigError("task", name, f"{times} items have this id; make every id unique")
    return items


def _asked(question: str, task: str) -> Item:
    digest = blake2b(question.encode(), digest_size=4).hexdigest()
    return Item(id=f"question-{digest}", task=task, question=question, answer=None)


def _whole(settings: Mapping[str, Any], name: str, least: int) -> int:
    value = settings[name]
    if type(value) is not int or value < least:
        raise ConfigError(name, value, f"give a whole number of at least {least}")
    return value


def _folder(out: str | None, name: str) -> Path:
    """`out`, or a folder of its own under runs/."""
    if out:
        return Path(str(out)).expanduser()
    folder = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    free = folder
    number = 1
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _say_how_to_go_on(store: Store, progress: Progress, arguments: Sequence[str]) -> None:
    command = [a for a in arguments if not a.startswith("out=")]
    sys.stderr.write(
        f"\ninterrupted: {progress.done} of {progress.total} rows are done; nothing is lost, go on with\n"
        f"  python -m experiments.solve {shlex.join([*command, f'out={store.folder}'])}\n"
    )
