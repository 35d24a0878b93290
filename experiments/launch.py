"""Sweeps: every job is the main program with its own arguments, run here, on a Ray cluster, or by SLURM.

A job is started as `python -m experiments.solve ARGUMENTS out=FOLDER`, so it is exactly what a user would start, and is
resumed like that. FOLDER is the number of the job inside the sweep's folder: `out` where it is given, else one of its
own under runs/sweeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from policies.pool import cluster
from search.errors import ConfigError

program = "experiments.solve"  # what is launched: the one that is running
statuses: list[int] = []  # of all jobs launched by this program: hydra gives them to nobody
FIELDS = {
    "processes": {"jobs"},
    "ray": {"address", "cpus", "gpus", "init"},
    "slurm": {"cluster", "folder", "options"},
}


class Ended(NamedTuple):
    """What a job left: its exit status and what it printed."""

    status: int
    output: str
    errors: str


def launch(jobs: Sequence[Sequence[str]], first: int, folder: str, settings: Mapping[str, Any]) -> list[int]:
    """Runs `jobs`, lists of overrides numbered from `first`; prints what each printed; the exit statuses in order.

    Raises ConfigError for settings of the launcher that are wrong.
    """
    by = settings.get("by")
    if by not in FIELDS:
        raise ConfigError("hydra.launcher.by", by, f"choose from {', '.join(FIELDS)}")
    for name in settings.keys() - {"by"} - FIELDS[by]:
        raise ConfigError(f"hydra.launcher.{name}", settings[name], f"choose from {', '.join(sorted(FIELDS[by]))}")
    fields = {name: value for name, value in settings.items() if name != "by"}
    ways: dict[str, Callable[..., list[Ended]]] = {"processes": _processes, "ray": _ray, "slurm": _slurm}
    found = ways[by]([[program, *command] for command in commands(jobs, first, folder)], **fields)
    statuses.extend(ended.status for ended in found)
    for job, ended in zip(jobs, found, strict=True):
        sys.stdout.write(f"\n== {' '.join(job)}\n{ended.output}")
        sys.stderr.write(ended.errors)
    return [ended.status for ended in found]


def commands(jobs: Sequence[Sequence[str]], first: int, folder: str) -> list[list[str]]:
    """The arguments of each job, with a folder of its own."""
    whole = []
    own = str(Path(folder) / time.strftime("%Y%m%d-%H%M%S"))
    for number, job in enumerate(jobs, first):
        given = [each.removeprefix("out=").strip("'\"") for each in job if each.startswith("out=")]
        others = [each for each in job if not each.startswith("out=")]
        whole.append([*others, f"out={Path(given[0] if given else own) / str(number)}"])
    return whole


def run(command: Sequence[str], folder: str) -> Ended:
    """One job as a program, its name first in `command`, started in `folder`."""
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _processes(commands: Sequence[Sequence[str]], jobs: int = 2) -> list[Ended]:
    if type(jobs) is not int or jobs < 1:
        raise ConfigError("hydra.launcher.jobs", jobs, "give a whole number of at least 1")
    with ThreadPoolExecutor(jobs) as threads:
        return list(threads.map(lambda command: run(command, os.getcwd()), commands))


def _ray(
    commands: Sequence[Sequence[str]],
    address: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    init: Mapping[str, Any] | None = None,
) -> list[Ended]:
    try:
        cluster.devices(address, init or {}, 1, gpus)
        cluster.join(address, init or {})
        try:
            cluster.afford(1, {"CPU": cpus, "GPU": gpus})
        except ConfigError:
            cluster.leave()
            raise
    except ConfigError as error:
        field = "hydra.launcher" + error.field.removeprefix("pool")
        raise ConfigError(field, error.value, error.remedy) from error
    try:
        import ray

        task = ray.remote(run).options(num_cpus=cpus, num_gpus=gpus, max_retries=3)  # a job that is lost resumes
        found: list[Ended] = ray.get([task.remote(command, os.getcwd()) for command in commands])
        return found
    finally:
        cluster.leave()


def _slurm(
    commands: Sequence[Sequence[str]],
    cluster: str = "slurm",
    folder: str = "runs/slurm",
    options: Mapping[str, Any] | None = None,
) -> list[Ended]:
    try:
        import submitit
    except ImportError:
        raise ConfigError("hydra/launcher", "slurm", "submitit is not installed: pip install submitit") from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise ConfigError("hydra.launcher.cluster", cluster, f"it cannot be used here ({error})") from error
    known = {name: value for name, value in (options or {}).items() if value is not None}
    executor.update_parameters(**known)
    if cluster == "slurm":
        submitted = executor.map_array(run, commands, [os.getcwd()] * len(commands))
    else:
        submitted = [executor.submit(run, command, os.getcwd()) for command in commands]
    return [job.result() for job in submitted]
