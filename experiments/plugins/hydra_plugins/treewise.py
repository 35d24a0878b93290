"""The launchers of sweeps: `hydra/launcher=processes`, `ray` or `slurm` of the main job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


class Jobs(Launcher):
    """Runs each job of a sweep as a program of its own, see `experiments.launch`."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keeps where the sweep's folders are."""
        self.folder = str(config.hydra.sweep.dir)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Every job's exit status as its return value."""
        from experiments.launch import launch

        settings = {
            name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in self.settings.items()
        }
        returns = []
        for overrides, status in zip(
            job_overrides, launch(job_overrides, initial_job_idx, self.folder, settings), strict=True
        ):
            done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
            done.return_value = status
            returns.append(done)
        return returns
