"""Read from the environment which process of a run this is, and how many torchrun has started."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["TorchrunSize", "is_separate_node", "read_rank", "read_torchrun"]


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
