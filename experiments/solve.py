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
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from experiments.commandline import CONF, explained, quoted, unknown_flags
    from experiments.job import solve
    from search.errors import ConfigError

    arguments = sys.argv[1:]
    if flags := unknown_flags(arguments):
        sys.exit(_fault(f"{flags[0]!r} is not valid: settings are given as name=value; --help lists them"))
    sys.argv[1:] = quoted(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra then raises its errors instead of printing them
    logging.getLogger("hydra").addHandler(logging.NullHandler())  # nor does it log them
    statuses: list[int] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(settings: DictConfig) -> None:
        try:
            statuses.append(solve(settings, arguments))
        except ConfigError as error:
            statuses.append(_fault(str(error)))
        except OmegaConfBaseException as error:
            statuses.append(_fault(explained(error, arguments)))

    try:
        job()
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # what composing raises
        sys.exit(_fault(explained(error, arguments)))
    sys.exit(max(statuses, default=0))


def _fault(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2


if __name__ == "__main__":
    main()
