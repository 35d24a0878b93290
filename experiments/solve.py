"""The main job: searches the items of a task, one row each.

    python -m experiments.solve task=game24 search=astar limit=20 seed=0 budget.generated=4096 out=runs/first

Exit status: 0 when every item has a row, 2 for a setting that is wrong, 1 otherwise.
"""

from __future__ import annotations

import logging
import os
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
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from experiments import launch
    from experiments.commandline import CONF, explained, quoted, unknown_flags
    from experiments.job import solve
    from search.errors import ConfigError

    if flags := unknown_flags(arguments):
        return _fault(f"{flags[0]!r} is not valid: settings are given as name=value; --help lists them")
    sys.argv[1:] = quoted(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra then raises its errors instead of printing them
    logging.getLogger("hydra").addHandler(logging.NullHandler())  # nor does it log them
    begun, statuses = 0, []
    launch.statuses.clear()

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(settings: DictConfig) -> None:
        nonlocal begun
        begun += 1
        try:
            statuses.append(solve(settings, arguments))
        except ConfigError as error:
            statuses.append(_fault(str(error)))
        except OmegaConfBaseException as error:
            statuses.append(_fault(explained(error, arguments)))

    try:
        job()
    except ConfigError as error:  # of a launcher
        return _fault(str(error))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if begun > len(statuses):  # not from composing: a fault of this program, to be seen whole
            raise
        return _fault(explained(error, arguments))
    return max((*statuses, *launch.statuses), default=0)


def _fault(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    main()
