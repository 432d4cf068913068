"""A sweep member that uses several devices runs in a process of its own, so that every rank sees its overrides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from seewhy.errors import ConfigError, SeewhyError

__all__ = ["needs_own_process", "run_in_own_process"]


def needs_own_process(config: DictConfig) -> bool:
    """Whether this job is part of a sweep and wants more than one process.

    Lightning starts the other ranks with the main process's command line. In a sweep that line holds the whole
    sweep, so each rank would run a sweep of its own, with other values under a random sampler.
    """
    return HydraConfig.get().mode is RunMode.MULTIRUN and _processes(config.get("trainer")) != 1


def _processes(trainer: Any) -> int:
    """Processes a Trainer configuration asks for; -1 where only the machine knows (`auto`, -1)."""
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


def run_in_own_process(config: DictConfig) -> float | None:
    """Run this member as a fresh single run in its own folder and read its objective.

    Raises:
        SeewhyError: the member's process failed.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    command = [sys.executable, "-m", "seewhy.cli.train", *hydra.overrides.task]
    command += ["hydra.mode=RUN", f"hydra.run.dir='{folder}'"]
    config_dirs = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    for path in config_dirs:
        command += ["--config-dir", path]
    environment = {key: value for key, value in os.environ.items() if key not in _RANK_VARIABLES}
    done = subprocess.run(command, cwd=hydra.runtime.cwd, env=environment, check=False)
    if done.returncode != 0:
        raise SeewhyError(f"its process failed with exit status {done.returncode}; see {folder}/train.log")
    results = json.loads((folder / "results.json").read_text())
    return results.get("objective")


_RANK_VARIABLES = {"LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"}


def check_objective(results: dict[str, float], name: str | None) -> float | None:
    """The value a sweep optimises.

    Raises:
        ConfigError: no such metric was logged; those that were are named.
    """
    if name is None:
        return None
    if name not in results:
        known = ", ".join(sorted(results)) or "none"
        raise ConfigError(f"objective={name!r} was not measured; measured: {known}")
    return float(results[name])
