"""Measures: `python -m experiments.bench tree` prints one JSON object per figure; without a name, all benchmarks.

A benchmark is a file in experiments/benchmarks with a function `figures` that yields `Figure`s; adding the file is all.
"""

from __future__ import annotations

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module

from experiments import benchmarks
from policies.collector import relax

NO_BENCHMARKS = ("clock", "figure", "generate")  # what several of them use


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in NO_BENCHMARKS
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures as they are measured; returns the exit status: 2 for a benchmark there is not."""
    parser = argparse.ArgumentParser(prog="experiments.bench", description="Measures this project.")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(names())}; all if not given")
    wanted = parser.parse_args(arguments).name
    if wanted is not None and wanted not in names():
        sys.stderr.write(f"name={wanted!r} is not valid: choose from {', '.join(names())}\n")
        return 2
    relax()  # as the main job does
    for name in [wanted] if wanted else names():
        for figure in import_module(f"experiments.benchmarks.{name}").figures():
            sys.stdout.write(figure.to_json() + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
