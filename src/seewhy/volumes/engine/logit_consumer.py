"""What is done with logits: blended, or kept patch by patch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from seewhy.io.zarr.source import Box
from seewhy.volumes.engine.blender import Blender
from seewhy.volumes.engine.stream import Command
from seewhy.volumes.engine.writer import Sink
from seewhy.volumes.geometry import BlendingWindow
from seewhy.volumes.plan import Plan
from seewhy.volumes.stored_logits import LogitKeeper, LogitStore

__all__ = ["LogitConsumer", "make_consumer"]


class LogitConsumer(Protocol):
    """Carries out the instructions of a stream."""

    run: int
    skipped: int

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Carry out instructions in order."""

    def check(self) -> None:
        """Raise what a thread failed with, if it did."""

    def close(self) -> None:
        """Wait until everything is stored."""


def make_consumer(
    plan: Plan,
    *,
    sink: Sink | LogitStore,
    window: BlendingWindow,
    device: torch.device,
    written: Callable[[Box], None],
) -> LogitConsumer:
    """What takes the logits: the keeper of a sink that stores them, or the blender of all others.

    Args:
        plan: tiles, grid and head.
        sink: the output.
        window: weights of the patches.
        device: where the network runs. Logits are added there while the accumulator takes at most half of what is
            free on a GPU, else on the processor.
        written: called with each box that is stored.
    """
    if isinstance(sink, LogitStore):
        return LogitKeeper(store=sink, depth=plan.costs.shard[0], written=written)
    if device.type == "cuda" and plan.memory.accumulator > torch.cuda.mem_get_info(device)[0] // 2:
        device = torch.device("cpu")
    return Blender(
        grid=plan.costs.grid,
        window=window,
        head=plan.costs.head,
        depth=plan.costs.shard[0],
        device=device,
        sink=sink,
        written=written,
    )
