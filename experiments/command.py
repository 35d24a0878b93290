"""A command line over hydra's configuration: settings in, a job, one clear sentence for a wrong setting."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments import launch, plugins
from experiments.commandline import CONF, explained, quoted, unknown_flags
from search.errors import ConfigError

Job = Callable[[DictConfig, Sequence[str]], int]


def run(job: Job, arguments: Sequence[str], config: str = "config") -> int:
    """Composes conf/`config`.yaml with `arguments` and runs `job`, once or for a sweep; the exit status."""
    if flags := unknown_flags(arguments):
        return fault(f"{flags[0]!r} is not valid: settings are given as name=value; --help lists them")
    sys.argv[1:] = quoted(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # hydra then raises its errors instead of printing them
    logging.getLogger("hydra").addHandler(logging.NullHandler())  # nor does it log them
    plugins.register()
    begun, statuses = 0, []
    launch.program, launch.statuses[:] = f"experiments.{'solve' if config == 'config' else config}", []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config)
    def composed(settings: DictConfig) -> None:
        nonlocal begun
        begun += 1
        _apart(settings)
        try:
            statuses.append(job(settings, arguments))
        except ConfigError as error:
            statuses.append(fault(str(error)))
        except OmegaConfBaseException as error:
            statuses.append(fault(explained(error, arguments, config)))

    try:
        composed()
    except ConfigError as error:  # of a launcher: those of a job are caught there
        return fault(str(error))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if begun > len(statuses):  # not from composing: a fault of this program, to be seen whole
            raise
        return fault(explained(error, arguments, config))
    return max((*statuses, *launch.statuses), default=0)


def _apart(settings: DictConfig) -> None:
    """Each job of a sweep has a folder of its own inside `out`, its number, as `experiments.launch` gives it one."""
    hydra_ = HydraConfig.get()
    if hydra_.mode == RunMode.MULTIRUN and settings.get("out"):
        settings.out = str(Path(settings.out) / str(hydra_.job.num))


def fault(sentence: str) -> int:
    """Says what is wrong; the exit status of a wrong setting."""
    sys.stderr.write(f"{sentence}\n")
    return 2
