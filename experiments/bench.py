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
from search.errors import ConfigError

OPTIONS = {  # of the benchmark `peers`
    "peers": "python of an environment with its_hub and treequest",
    "vllm": "python of an environment with vLLM; this one if not given",
}
NO_BENCHMARKS = ("clock", "figure", "generate")  # what several of them use


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name not in NO_BENCHMARKS
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures as they are measured; returns the exit status: 2 for one that there is not, or not here."""
    parser = argparse.ArgumentParser(prog="experiments.bench", description="Measures this project.")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(names())}; all if not given")
    for option, meaning in OPTIONS.items():
        parser.add_argument(f"--{option}", metavar="PATH", help=f"for peers: {meaning}")
    told = parser.parse_args(arguments)
    if told.name is not None and told.name not in names():
        sys.stderr.write(f"name={told.name!r} is not valid: choose from {', '.join(names())}\n")
        return 2
    relax()  # as the main job does
    for name in [told.name] if told.name else names():
        options = {option: getattr(told, option) for option in OPTIONS} if name == "peers" else {}
        try:
            for figure in import_module(f"experiments.benchmarks.{name}").figures(**options):
                sys.stdout.write(figure.to_json() + "\n")
                sys.stdout.flush()
        except ConfigError as error:  # what it measures is not here
            sys.stderr.write(f"{name}: {error}\n")
            if told.name:
                return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
