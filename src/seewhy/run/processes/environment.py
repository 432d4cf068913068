"""Processes of a run: which one this is, how many there are, and the options that depend on their number."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig

from seewhy.errors import ConfigError

__all__ = [
    "TorchrunSize",
    "count_processes",
    "fit_trainer_options",
    "is_separate_node",
    "read_rank",
    "read_torchrun",
    "set_batch_size",
]

LOGGER = logging.getLogger(__name__)
ANY_GRADIENTS = "ddp_find_unused_parameters_true"
"""DDP for models in which a step leaves parameters without gradients: phases of a schedule, two optimisers."""


class TorchrunSize(NamedTuple):
    """Processes that torchrun has started.

    Attributes:
        devices: on each machine.
        nodes: machines.
    """

    devices: int
    nodes: int


def read_rank() -> int:
    """Return the number of this process among those of one run; 0 for the first one.

    On further machines that a user started by hand (`NODE_RANK`), it is only known to be above 0.
    """
    numbers = {name: _read_number(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")}
    for name in ("RANK", "SLURM_PROCID"):
        number = numbers[name]
        if number is not None:
            return number
    return (numbers["LOCAL_RANK"] or 0) + (numbers["NODE_RANK"] or 0)


def read_torchrun() -> TorchrunSize | None:
    """Return the number of processes that torchrun has started; None without torchrun.

    Example:
        >>> import os
        >>> os.environ |= {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
        >>> read_torchrun()
        TorchrunSize(devices=2, nodes=2)
        >>> for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        ...     _ = os.environ.pop(name)
    """
    size, local = _read_number("WORLD_SIZE"), _read_number("LOCAL_WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" not in os.environ or not size or not local:
        return None
    return TorchrunSize(local, size // local)


def is_separate_node() -> bool:
    """Return whether Lightning starts the processes of this machine, one of several (`NODE_RANK`)."""
    return "NODE_RANK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ and "LOCAL_RANK" not in os.environ


def _read_number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None


# -- options of the Trainer, and batch sizes ------------------------------------------------------------------


def count_processes(trainer: Mapping[str, Any] | None) -> int:
    """Count the processes that the configuration of a Trainer asks for; -1 if that depends on the machine.

    Example:
        >>> from seewhy.run.processes.environment import count_processes
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


def fit_trainer_options(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a Trainer that follow from how and where its processes run.

    - Under torchrun, its numbers of processes and machines count.
    - Several processes with `strategy: auto` get the strategy that suits all models.
    - `sync_batchnorm` is for GPUs: gloo, the backend of CPUs, has none.

    Example:
        >>> fit_trainer_options({"devices": 4, "accelerator": "cpu", "strategy": "auto", "sync_batchnorm": True})
        {'strategy': 'ddp_find_unused_parameters_true', 'sync_batchnorm': False}
    """
    fitted: dict[str, Any] = {}
    size = read_torchrun()
    if size is not None and count_processes(trainer) != size.devices * size.nodes:
        fitted |= {"devices": size.devices, "num_nodes": size.nodes}
    if trainer.get("strategy", "auto") == "auto" and _count_here(trainer, fitted) > 1:
        fitted["strategy"] = ANY_GRADIENTS
    if trainer.get("sync_batchnorm") and _is_cpu(trainer):
        fitted["sync_batchnorm"] = False
    return fitted


def set_batch_size(config: DictConfig) -> None:
    """Set `data.batch_size`, the batch of each process, so that a step has `effective_batch_size` samples.

    Raises:
        ConfigError: the samples cannot be divided among processes and accumulated batches.

    Example:
        >>> from omegaconf import OmegaConf
        >>> trainer = {"devices": 2, "num_nodes": 2, "accumulate_grad_batches": 2}
        >>> config = OmegaConf.create({"effective_batch_size": 32, "data": {"batch_size": 1}, "trainer": trainer})
        >>> set_batch_size(config)
        >>> config.data.batch_size
        4
    """
    wanted = config.get("effective_batch_size")
    if wanted is None:
        return
    processes = _count_here(config.trainer, fit_trainer_options(config.trainer))
    model = config.get("model") or {}
    accumulated = int(config.trainer.get("accumulate_grad_batches") or 1) * int(model.get("accumulate") or 1)
    parts = processes * accumulated
    if wanted % parts:
        below, above = wanted // parts * parts, -(-wanted // parts) * parts
        nearest = " or ".join(str(number) for number in (below, above) if number)
        raise ConfigError(
            f"effective_batch_size={wanted} cannot be divided by {processes} processes times "
            f"{accumulated} accumulated batches; use {nearest}"
        )
    config.data.batch_size = wanted // parts
    LOGGER.info(
        "effective batch size %d = %d processes * %d accumulated batches * data.batch_size=%d",
        wanted, processes, accumulated, wanted // parts,
    )  # fmt: skip


def _count_here(trainer: Mapping[str, Any], fitted: Mapping[str, Any]) -> int:
    """Count the processes, with the GPUs of this machine where the configuration asks for all of them."""
    options = {key: trainer[key] for key in ("devices", "num_nodes", "accelerator") if key in trainer}
    options |= fitted
    count = count_processes(options)
    if count >= 0:
        return count
    import torch

    return int(options.get("num_nodes") or 1) * max(torch.cuda.device_count(), 1)


def _is_cpu(trainer: Mapping[str, Any]) -> bool:
    accelerator = trainer.get("accelerator", "auto")
    if accelerator != "auto":
        return bool(accelerator == "cpu")
    import torch

    return not torch.cuda.is_available()
