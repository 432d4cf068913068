"""Run the members of a sweep, those with several processes as single runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.errors import SeewhyError
from seewhy.options import quote_value
from seewhy.run.processes.environment import count_processes
from seewhy.run.records import read_results
from seewhy.run.sweeps.member_state import read_state

__all__ = ["run_member"]

RANK_VARIABLES = {"RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"}
SLURM_TASKS = {"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"}
"""Variables by which Lightning takes a process for one of several that SLURM has started."""


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


def _run_process() -> float | None:
    """Run this member as a single run in a new process, in the folder of the member, and read its objective.

    Raises:
        SeewhyError: the process failed.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    command = [sys.executable, "-m", "seewhy", "train", *hydra.overrides.task]
    # Which trial of a study this is, its storage and its pruner; the rest of Hydra's words would start the sweep again.
    command += [word for word in hydra.overrides.hydra if word.startswith(("hydra.sweeper.", "hydra/sweeper="))]
    command += ["hydra.mode=RUN", f"hydra.run.dir={quote_value(str(folder))}"]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            command += ["--config-dir", source.path]
    # The Trainer starts its processes by itself, also within a job of SLURM that has one task.
    environment = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES | SLURM_TASKS}
    process = subprocess.Popen(command, cwd=hydra.runtime.cwd, env=environment)
    try:
        status = process.wait()
    except BaseException:  # SIGTERM or Ctrl-C of the sweep
        process.terminate()
        process.wait()
        raise
    if status != 0:
        raise SeewhyError(f"its process failed with exit status {status}; see {folder}/train.log")
    if (state := read_state(folder)) is not None and state.state == "PRUNED":
        return None
    objective: float | None = read_results(folder).get("objective")
    return objective
