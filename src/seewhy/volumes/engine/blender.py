"""Carries out the instructions of a stream: adds logits, and sends what is final to the writer.

Blended logits of a tile, held only for the rows that patches still reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.zarr.source import Box
from seewhy.volumes.engine.stream import Add, Advance, Begin, Command
from seewhy.volumes.engine.writer import RowBuffer, Sink, Writer
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import GROUP
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Unit

__all__ = ["Accumulator", "Blender"]


class Accumulator:
    """A ring of float32 rows that moves down along z with the patches.

    Every patch covers `depth` rows, so that many are held, whatever the length of z; row z lies at z modulo `depth`.
    Additions happen in the order of the calls and each is one rounded sum per voxel, hence the result does not
    depend on where tiles are cut or where a run was taken up again.

    Args:
        channels: of the logits.
        depth: rows of a patch.
        core: the tile, ZYX; what patches reach outside of it is dropped.
        device: where the rows live.
    """

    def __init__(self, *, channels: int, depth: int, core: Box, device: torch.device | str = "cpu") -> None:
        self.depth, self.core = depth, core
        self.row = core[0].start
        """First row that has not been taken yet."""
        height, width = (axis.stop - axis.start for axis in core[1:])
        self.ring = torch.zeros((channels, depth, height, width), dtype=torch.float32, device=device)

    def add(self, weighted: Tensor, box: Box) -> None:
        """Add one patch.

        Args:
            weighted: [K, P, P, P] float32, logits times weights, on the ring's device.
            box: where the patch lies; it may stick out of the tile.
        """
        inner = [_overlap(place, core) for place, core in zip(box[1:], self.core[1:], strict=True)]
        low = max(box[0].start, self.row)
        high = min(box[0].stop, self.core[0].stop)
        (y_patch, y_core), (x_patch, x_core) = inner
        if low >= high or y_core.start >= y_core.stop or x_core.start >= x_core.stop:
            return
        for first, last in self._segments(low, high):
            place = first % self.depth
            rows = slice(first - box[0].start, last - box[0].start)
            self.ring[:, place : place + last - first, y_core, x_core].add_(weighted[:, rows, y_patch, x_patch])

    def take(self, stop: int) -> Iterator[Tensor]:
        """Give the rows before `stop` that have not been given, in order, and forget them.

        Yields:
            [K, rows, height, width] float32, a view that is cleared when the next one is asked for.
        """
        stop = min(stop, self.core[0].stop)
        for first, last in self._segments(self.row, stop):
            place = first % self.depth
            rows = self.ring[:, place : place + last - first]
            yield rows
            rows.zero_()
        self.row = max(self.row, stop)

    def _segments(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The rows from `low` to `high`, cut where the ring closes."""
        while low < high:
            last = min(high, (low // self.depth + 1) * self.depth)
            yield low, last
            low = last


def _overlap(place: slice, core: slice) -> tuple[slice, slice]:
    """The common voxels of a patch's and a tile's axis, counted from the patch's start and from the tile's."""
    low, high = max(place.start, core.start), min(place.stop, core.stop)
    return slice(low - place.start, high - place.start), slice(low - core.start, high - core.start)


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
        window: BlendingWindow,
        head: OutputFormat,
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
