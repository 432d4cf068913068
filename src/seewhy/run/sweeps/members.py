"""Run the members of a sweep, and write and print a table of them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.errors import SeewhyError
from seewhy.run.records import read_overrides, read_results

__all__ = ["SweepTable", "count_processes", "run_member", "sweep_rows"]

RANK_VARIABLES = {"RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"}


def run_member(config: DictConfig) -> float | None:
    """Train a single run or a member of a sweep, and return its objective.

    Lightning starts the other ranks with the command line of the main process. In a sweep that line describes the
    whole sweep, so each rank would run a sweep, with other values under a random sampler. A member that uses several
    processes is therefore started as a single run in a new process.
    """
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            raise SeewhyError("each process of torchrun would run the whole sweep; start it without torchrun")
        if count_processes(config.get("trainer")) != 1:
            return _run_process()
    from seewhy.run.train import train

    return train(config)


def count_processes(trainer: Mapping[str, Any] | None) -> int:
    """Count the processes that the configuration of a Trainer asks for; -1 if that depends on the machine.

    Example:
        >>> from seewhy.run.sweeps.members import count_processes
        >>> count_processes({"devices": 2, "num_nodes": 3}), count_processes({"devices": "0,1"})
        (6, 2)
        >>> count_processes({"devices": "auto", "accelerator": "gpu"})
        -1
    """
    if trainer is None:
        return 1
    nodes = int(trainer.get("num_nodes") or 1)
    devices = trainer.get("devices", 1)
    if isinstance(devices, int):
        return nodes * devices if devices >= 0 else -1
    if isinstance(devices, str):
        if devices == "auto":
            return nodes if trainer.get("accelerator") == "cpu" else -1
        if devices.lstrip("-").isdigit():
            return nodes * int(devices) if int(devices) >= 0 else -1
        return nodes * len([part for part in devices.split(",") if part.strip()])
    return nodes * len(devices)


def _run_process() -> float | None:
    """Run this member as a single run in a new process, in the folder of the member, and read its objective.

    Raises:
        SeewhyError: the process failed.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    command = [sys.executable, "-m", "seewhy", "train", *hydra.overrides.task]
    command += ["hydra.mode=RUN", f"hydra.run.dir='{folder}'"]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    process = subprocess.Popen(command, cwd=hydra.runtime.cwd, env=environment)
    try:
        status = process.wait()
    except BaseException:  # SIGTERM or Ctrl-C of the sweep
        process.terminate()
        process.wait()
        raise
    if status != 0:
        raise SeewhyError(f"its process failed with exit status {status}; see {folder}/train.log")
    objective: float | None = read_results(folder).get("objective")
    return objective


class SweepTable(Callback):
    """Hydra callback that writes `sweep.csv` after every member and prints it after the last one.

    Hydra continues after a failed member but then skips `on_multirun_end`; `sweep.csv` is complete even then.
    """

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Update the table if this job is part of a sweep."""
        if config.hydra.mode is RunMode.MULTIRUN:
            _write(Path(str(config.hydra.sweep.dir)))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table, and pool the folds if the sweep is over folds."""
        folder = Path(str(config.hydra.sweep.dir))
        rows = _write(folder)
        if rows:
            _print(rows, folder / "sweep.csv")
        if len({row.get("data.fold") for row in rows}) > 1:
            _pool_folds(folder)


def sweep_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row per finished member, in order of its number: number, overrides and metrics.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from seewhy.run.sweeps.members import sweep_rows
        >>> run = Path("sweep/0")
        >>> (run / ".hydra").mkdir(parents=True)
        >>> _ = (run / "results.json").write_text(json.dumps({"metrics": {"test/auroc": 0.75}}))
        >>> _ = (run / ".hydra" / "overrides.yaml").write_text("[seed=1]")
        >>> sweep_rows(Path("sweep"))
        [{'member': '0', 'seed': '1', 'test/auroc': 0.75}]
    """
    rows = []
    for results in folder.glob("*/results.json"):
        run = results.parent
        rows.append({"member": run.name, **read_overrides(run), **read_results(run)["metrics"]})
    return sorted(rows, key=lambda row: (not row["member"].isdigit(), row["member"].zfill(8)))


def _write(folder: Path) -> list[dict[str, Any]]:
    """Write the table of the members so far, and return its rows."""
    from seewhy.io.atomic import write_csv

    rows = sweep_rows(folder)
    if rows:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_csv(folder / "sweep.csv", [{key: row.get(key, "") for key in columns} for row in rows], columns=columns)
    return rows


def _pool_folds(folder: Path) -> None:
    """Pool the folds of a classification; other sweeps are not an error."""
    from seewhy.errors import SeewhyError
    from seewhy.run.sweeps.pooling import pool_folds, print_pooled, read_members

    try:
        if read_members(folder):
            print_pooled(pool_folds(folder), folder)
    except SeewhyError as error:
        logging.getLogger(__name__).warning("the folds are not pooled: %s", error)


def _print(rows: list[dict[str, Any]], path: Path) -> None:
    """Print the overrides that varied and the main metrics."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(key for row in rows for key in row))
    varied = [key for key in columns if len({str(row.get(key)) for row in rows}) > 1]
    metrics = [key for key in varied if key.startswith("test/") and key.endswith(("/dice", "/auprc", "auroc"))]
    choices = [key for key in varied if "/" not in key]
    table = Table(title=f"{len(rows)} members", caption=str(path))
    for key in choices + metrics[:8]:
        table.add_column(key.removeprefix("test/").replace("/", "\n"), overflow="fold")
    for row in rows:
        cells = (row.get(key, "") for key in choices + metrics[:8])
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
