"""Measures: `python -m experiments.bench tree` prints one JSON object per figure; without a name, all benchmarks.

A benchmark is a file in experiments/benchmarks with a function `figures` that yields `Figure`s; adding the file is all.
What `figures` takes can be set behind the name: `python -m experiments.bench engine shape=0.5B device=cuda`.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from typing import Any

from experiments import benchmarks
from policies.collector import relax
from search.errors import ConfigError

# what several of them use, or parts of one
NO_BENCHMARKS = ("beside_vllm", "clock", "figure", "generate", "parts", "shapes", "stated", "workload")


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in NO_BENCHMARKS
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures as they are measured; returns the exit status: 2 for one that there is not, or not here."""
    parser = argparse.ArgumentParser(prog="experiments.bench", description="Measures this project.")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(names())}; all if not given")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="what the benchmark can be told")
    asked = parser.parse_args(arguments)
    wanted = asked.name
    if wanted is not None and wanted not in names():
        sys.stderr.write(f"name={wanted!r} is not valid: choose from {', '.join(names())}\n")
        return 2
    relax()  # as the main job does
    for name in [wanted] if wanted else names():
        figures = import_module(f"experiments.benchmarks.{name}").figures
        try:
            for figure in figures(**_settings(figures, asked.settings)):
                sys.stdout.write(figure.to_json() + "\n")
                sys.stdout.flush()
        except ConfigError as error:  # what it measures is not here
            sys.stderr.write(f"{name}: {error}\n")
            if wanted:
                return 2
    return 0


def _settings(figures: Callable[..., Any], told: Sequence[str]) -> dict[str, str]:
    """What was told, by name.

    Raises:
        ConfigError: it is not KEY=VALUE, or the benchmark takes no such thing.
    """
    known = signature(figures).parameters
    for one in told:
        key, sign, _ = one.partition("=")
        if not sign or key not in known:
            raise ConfigError(key, one, f"give KEY=VALUE, of {', '.join(known)}" if known else "give the name alone")
    return {key: value for key, _, value in (one.partition("=") for one in told)}


if __name__ == "__main__":
    sys.exit(main())
