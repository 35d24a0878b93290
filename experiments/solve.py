"""The main job: searches the items of a task, one row each.

    python -m experiments.solve task=game24 search=astar limit=20 seed=0 budget.generated=4096 out=runs/first

Exit status: 0 when every item has a row, 2 for a setting that is wrong, 1 otherwise.
"""

from __future__ import annotations

import sys

from experiments import shadow


def main() -> None:
    """Reads the command line, runs the job, ends the program with its status."""
    shadow.check()  # before anything is imported under a name that may be another's
    try:
        sys.exit(_main(sys.argv[1:]))
    except KeyboardInterrupt:  # while modules, data or weights were being read
        sys.stderr.write("\ninterrupted before the first item\n")
        sys.exit(1)


def _main(arguments: list[str]) -> int:
    from experiments.command import run
    from experiments.job import solve

    return run(solve, arguments)


if __name__ == "__main__":
    main()
