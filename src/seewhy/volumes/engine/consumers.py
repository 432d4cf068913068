"""Consumers of logits: blend the patches of a tile with a rolling accumulator, or store them one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.zarr.source import Box
from seewhy.volumes.engine.stream import Add, Advance, Begin, Command, Position
from seewhy.volumes.engine.writer import RowBuffer, Sink, Writer
from seewhy.volumes.geometry import BlendingWindow, PatchGrid
from seewhy.volumes.memory import GROUP
from seewhy.volumes.output_format import OutputFormat
from seewhy.volumes.plan import Tile

__all__ = ["Accumulator", "Blender", "LogitConsumer", "LogitKeeper"]

GROUP_ON_GPU = 1 << 24
"""Voxels that are converted to stored numbers at a time on a GPU."""
WRITERS = 4
"""Threads that store logits."""


class LogitConsumer(Protocol):
    """Executes the commands of a `PatchStream` with the logits of its batches.

    Attributes:
        run: patches with logits so far.
        skipped: skipped patches so far.
    """

    run: int
    skipped: int

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Execute commands in order.

        Args:
            commands: of a stream.
            logits: [B, K, P, P, P], the batch that the commands refer to; None if they refer to none.

        Raises:
            DataError: logits are not finite, or the output cannot be written.
        """

    def check(self) -> None:
        """Raise the error of a writing thread, if there was one."""

    def close(self) -> None:
        """Wait until everything is written; raises the error of a writing thread."""


class Accumulator:
    """A ring of float32 rows that moves down along z with the patches.

    A patch covers `depth` rows, so this many rows are kept, however long the volume is along z; row z is stored at
    z modulo `depth`. Additions are made in the order of the calls, each with one rounding per voxel, so the result
    does not depend on where tiles are cut or where a run was resumed.

    Args:
        channels: of the logits.
        depth: rows of a patch.
        core: the tile, ZYX; the part of a patch outside it is dropped.
        device: where the rows are kept.
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
            box: position of the patch; it may extend beyond the tile.
        """
        inner = [_overlap(axis, core) for axis, core in zip(box[1:], self.core[1:], strict=True)]
        low = max(box[0].start, self.row)
        high = min(box[0].stop, self.core[0].stop)
        (y_patch, y_core), (x_patch, x_core) = inner
        if low >= high or y_core.start >= y_core.stop or x_core.start >= x_core.stop:
            return
        for first, last in self._segments(low, high):
            offset = first % self.depth
            rows = slice(first - box[0].start, last - box[0].start)
            self.ring[:, offset : offset + last - first, y_core, x_core].add_(weighted[:, rows, y_patch, x_patch])

    def take(self, stop: int) -> Iterator[Tensor]:
        """Take the remaining rows before `stop`, in order, and clear them.

        Yields:
            [K, rows, height, width] float32, a view that is cleared when the next one is requested.
        """
        stop = min(stop, self.core[0].stop)
        for first, last in self._segments(self.row, stop):
            offset = first % self.depth
            rows = self.ring[:, offset : offset + last - first]
            yield rows
            rows.zero_()
        self.row = max(self.row, stop)

    def _segments(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The rows from `low` to `high`, cut where the ring wraps around."""
        while low < high:
            last = min(high, (low // self.depth + 1) * self.depth)
            yield low, last
            low = last


def _overlap(patch: slice, core: slice) -> tuple[slice, slice]:
    """The common voxels of a patch and a tile along one axis, relative to the patch's start and to the tile's."""
    low, high = max(patch.start, core.start), min(patch.stop, core.stop)
    return slice(low - patch.start, high - patch.start), slice(low - core.start, high - core.start)


class Blender:
    """Blends the logits of tiles, one tile after the other.

    Args:
        grid: positions over the whole volume.
        window: weights of the patches.
        output_format: converts logits to stored numbers.
        depth: rows of an output shard.
        device: where logits are added.
        sink: the output.
        on_written: called with each box after its write has returned.
        is_written: whether another process has written a box meanwhile; it is not written again.
    """

    def __init__(
        self,
        *,
        grid: PatchGrid,
        window: BlendingWindow,
        output_format: OutputFormat,
        depth: int,
        device: torch.device,
        sink: Sink,
        on_written: Callable[[Box], None],
        is_written: Callable[[Box], bool] = lambda box: False,
    ) -> None:
        self.grid, self.window, self.output_format = grid, window.to(device), output_format
        self.depth, self.device = depth, device
        self._writer = Writer(sink=sink, dtype=output_format.dtype, on_written=on_written, is_written=is_written)
        self._empty = output_format.empty_logits(device)[:, None, None, None]
        self._weighted = torch.empty((output_format.channels, *grid.patch), device=device)
        self._accumulator: Accumulator | None = None
        self._rows: RowBuffer | None = None
        self.run, self.skipped = 0, 0

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Execute commands in order, see `LogitConsumer`."""
        for command in commands:
            if isinstance(command, Add):
                self._add(command, logits)
            elif isinstance(command, Advance):
                self._advance(command.row)
            elif isinstance(command, Begin):
                self._begin(command.tile, command.row)

    def check(self) -> None:
        """Raise the error of the writing thread, if there was one."""
        self._writer.check()

    def close(self) -> None:
        """Wait until everything is written; raises the error of the writing thread."""
        self._writer.close()

    def _begin(self, tile: Tile, row: int) -> None:
        self._accumulator = None  # frees its memory before the next one is allocated
        core = (slice(row, tile.core[0].stop), *tile.core[1:])
        self._accumulator = Accumulator(
            channels=self.output_format.channels, depth=self.grid.patch[0], core=core, device=self.device
        )
        self._rows = RowBuffer(
            core=tile.core,
            row=row,
            depth=self.depth,
            output_format=self.output_format,
            send=self._writer.submit,
            pinned=self.device.type == "cuda",
        )

    def _add(self, patch: Add, logits: Tensor | None) -> None:
        """Weight the whole patch, then add it: two rounded operations, whatever part of it lies in the tile."""
        weights = self.window.weights(patch.position)
        if patch.slot is None:
            torch.mul(self._empty, weights, out=self._weighted)
            self.skipped += 1
        else:
            assert logits is not None
            torch.mul(logits[patch.slot].to(self.device, torch.float32), weights, out=self._weighted)
            self.run += 1
        assert self._accumulator is not None
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
                self._rows.append(self.output_format(group))


class LogitKeeper:
    """Stores the logits of a stream's patches instead of blending them.

    Args:
        write: stores the logits [K, *patch] float16 of the patch at a position, e.g. `LogitStore.write`; called by
            several threads.
        depth: rows of an output shard; progress is recorded after each.
        on_written: called with each box whose patches are stored.
    """

    def __init__(
        self,
        *,
        write: Callable[[Position, NDArray[np.float16]], None],
        depth: int,
        on_written: Callable[[Box], None],
    ) -> None:
        self.depth, self._write, self._on_written = depth, write, on_written
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="write-behind")
        self._waiting: list[Future[None]] = []
        self._core: Box | None = None
        self._row = 0
        self.run, self.skipped = 0, 0

    def execute(self, commands: Sequence[Command], logits: Tensor | None) -> None:
        """Execute commands in order, see `LogitConsumer`; logits must fit into float16."""
        for command in commands:
            if isinstance(command, Begin):
                self._core, self._row = command.tile.core, command.row
            elif isinstance(command, Add):
                self._add(command, logits)
            else:
                self._advance(command.row)

    def check(self) -> None:
        """Raise the error of a write, if one failed."""
        done = [future for future in self._waiting if future.done()]
        self._waiting = [future for future in self._waiting if not future.done()]
        for future in done:
            future.result()

    def close(self) -> None:
        """Wait until everything is stored."""
        try:
            self._wait()
        finally:
            self._pool.shutdown()

    def _add(self, patch: Add, logits: Tensor | None) -> None:
        if patch.slot is None:
            self.skipped += 1
            return
        assert logits is not None
        half = logits[patch.slot].half().cpu().numpy()
        if not np.isfinite(half).all():
            raise DataError("logits do not fit into float16, or are not finite; set volume.job.keep_logits=false")
        self.run += 1
        while len(self._waiting) >= 2 * WRITERS:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._write, patch.position, half))

    def _advance(self, row: int) -> None:
        """Record whole shards once all their patches are stored."""
        assert self._core is not None
        stop = self._core[0].stop if row >= self._core[0].stop else row // self.depth * self.depth
        if stop > self._row:
            self._wait()
            self._on_written((slice(self._row, stop), *self._core[1:]))
            self._row = stop

    def _wait(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.result()
