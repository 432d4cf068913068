"""Carries out the instructions of a stream: adds logits, and sends what is final to the writer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.volume_base import Box
from seewhy.volumes.accumulator import Accumulator
from seewhy.volumes.grid import PatchGrid
from seewhy.volumes.head import Head
from seewhy.volumes.memory import GROUP
from seewhy.volumes.stream import Add, Advance, Begin, Command
from seewhy.volumes.unit import Unit
from seewhy.volumes.window import Window
from seewhy.volumes.writer import RowBuffer, Sink, Writer

__all__ = ["Blender"]

GROUP_ON_GPU = 1 << 24
"""Voxels that are turned into stored numbers at a time on a GPU."""


class Blender:
    """Blends the logits of one part's tiles, one tile after the other.

    Args:
        grid: positions over the whole volume.
        window: weights of the patches.
        head: from logits to stored numbers.
        depth: rows of an output shard.
        device: where logits are added.
        sink: the output.
        written: called with each box after its write has returned.
    """

    def __init__(
        self,
        *,
        grid: PatchGrid,
        window: Window,
        head: Head,
        depth: int,
        device: torch.device,
        sink: Sink,
        written: Callable[[Box], None],
    ) -> None:
        self.grid, self.window, self.head, self.depth, self.device = grid, window.to(device), head, depth, device
        self._writer = Writer(sink=sink, dtype=head.dtype, written=written)
        self._empty = head.empty_logits(device)[:, None, None, None]
        self._weighted = torch.empty((head.channels, *grid.patch), device=device)
        self._accumulator: Accumulator | None = None
        self._rows: RowBuffer | None = None
        self.run, self.skipped = 0, 0

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Carry out instructions in order.

        Args:
            commands: of a stream.
            logits: [B, K, P, P, P], the batch they speak of.

        Raises:
            DataError: when logits are not finite.
        """
        for command in commands:
            if isinstance(command, Add):
                self._add(command, logits)
            elif isinstance(command, Advance):
                self._advance(command.row)
            elif isinstance(command, Begin):
                self._begin(command.unit, command.row)

    def check(self) -> None:
        """Raise what the writing thread failed with, if it did."""
        self._writer.check()

    def close(self) -> None:
        """Wait until everything is stored; raises what the writing thread failed with."""
        self._writer.close()

    def _begin(self, unit: Unit, row: int) -> None:
        self._accumulator = None  # its memory goes before the next is asked for
        core = (slice(row, unit.core[0].stop), *unit.core[1:])
        self._accumulator = Accumulator(
            channels=self.head.channels, depth=self.grid.patch[0], core=core, device=self.device
        )
        self._rows = RowBuffer(
            core=unit.core,
            row=row,
            depth=self.depth,
            head=self.head,
            send=self._writer.put,
            pinned=self.device.type == "cuda",
        )

    def _add(self, patch: Add, logits: Tensor | None) -> None:
        """Weigh a patch as a whole, then add: two rounded operations, whatever part of it lies in the tile."""
        assert self._accumulator is not None
        weights = self.window.weights(patch.position)
        if patch.slot is None:
            torch.mul(self._empty, weights, out=self._weighted)
            self.skipped += 1
        else:
            assert logits is not None
            torch.mul(logits[patch.slot].to(self.device, torch.float32), weights, out=self._weighted)
            self.run += 1
        self._accumulator.add(self._weighted, self.grid.box(patch.position))

    def _advance(self, row: int) -> None:
        assert self._accumulator is not None
        assert self._rows is not None
        for rows in self._accumulator.take(row):
            largest = GROUP if rows.device.type == "cpu" else GROUP_ON_GPU
            count = max(1, largest // math.prod(rows.shape[2:]))
            for group in rows.split(count, dim=1):
                # A sum is infinite or NaN as soon as one number is, and costs one pass without a copy.
                if not math.isfinite(group.sum().item()):
                    raise DataError(
                        f"logits before row {row} are not finite: the network overflowed or its weights are damaged; "
                        "try trainer.precision=bf16-mixed or 32-true"
                    )
                self._rows.put(self.head(group))
