"""Hydra plugins of seewhy: sweepers over grids, over an Optuna study, and over the members of a benchmark.

Hydra finds sweepers only in the package `hydra_plugins`, and imports this file in every command; what a sweep needs is
imported when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

__all__ = ["BenchmarkSweeper", "GridSweeper", "StudySweeper"]


class GridSweeper(BasicSweeper):
    """Hydra's sweeper over all combinations of values, with a figure and a page at its end, also if members failed."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run all combinations."""
        from seewhy.run.sweeps.page import finish_sweep

        assert self.config is not None
        try:
            return super().sweep(arguments)
        finally:
            config = self.config
            goals = {config.objective: config.direction} if config.objective and config.direction else {}
            finish_sweep(Path(str(config.hydra.sweep.dir)), config, goals)


class _LaunchingSweeper(Sweeper):
    """Sweeper that keeps its options, and builds its launcher when the folder of the sweep is known."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the launcher needs."""
        self.hydra_context, self.task_function = hydra_context, task_function
        self.config: Any = config

    def build_launcher(self) -> Launcher:
        """Build the launcher of `hydra/launcher`, when the folder of the sweep is known."""
        assert self.hydra_context is not None
        assert self.config is not None
        return Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context, task_function=self.task_function, config=self.config
        )

    def check_members(self, members: Sequence[Sequence[str]]) -> None:
        """Compose the configurations of members, which raises Hydra's errors about wrong options."""
        self.validate_batch_is_legal(members)


class StudySweeper(_LaunchingSweeper):
    """Sweeper over an Optuna study that several processes share and that a later command continues.

    Args:
        options: fields of `seewhy.run.sweeps.search.StudyOptions`, and `trial`, which members get.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run the members of the study that are missing."""
        from seewhy.run.sweeps.search import run_search

        run_search(self, arguments)


class BenchmarkSweeper(_LaunchingSweeper):
    """Sweeper over experiments and seeds, which a later command continues.

    Args:
        options: fields of `seewhy.run.benchmark.members.BenchmarkOptions`.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run the members that are missing, and compare the methods over all of them."""
        from seewhy.run.benchmark.members import run_benchmark

        run_benchmark(self, arguments)
