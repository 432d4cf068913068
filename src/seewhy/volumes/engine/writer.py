"""Write finished rows behind the network: collect them into whole shards, store them in a thread, report each write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import DataError, SeewhyError
from seewhy.io.zarr.source import Box
from seewhy.volumes.engine.bounded_queue import BoundedQueue, QueueEnd
from seewhy.volumes.engine.ledger import Output
from seewhy.volumes.output_format import OutputFormat

__all__ = ["ArraySink", "RowBuffer", "Sink", "Writer"]


class Sink(Output, Protocol):
    """Output that takes whole shards, e.g. `seewhy.io.zarr.sink.VolumeSink`."""

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Write whole shards; returns when they are stored."""


class ArraySink:
    """An array in memory as an output.

    Args:
        array: [Z, Y, X] or [K, Z, Y, X].
    """

    identity: str | None = None

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Copy a block into the array."""
        self.array[(..., *box)] = block

    def reopen(self) -> None:
        """Do nothing: an array can always be written to."""

    levels = 0

    def build_part(self, level: int, index: tuple[int, int, int]) -> None:
        """Do nothing: an array has no coarser levels."""

    def seal(self) -> None:
        """Do nothing: an array is complete when it is written."""


class Rows(NamedTuple):
    """Whole shards of one tile."""

    box: Box
    values: Tensor
    ready: torch.cuda.Event | None
    """Recorded after the copy from the GPU; None on a CPU."""


class RowBuffer:
    """Collects the rows of one tile until they fill shards.

    Args:
        core: the tile.
        row: first row that will be put.
        depth: rows of a shard.
        output_format: gives the dtype and the number of planes.
        send: receives whole shards.
        pinned: keep rows in page-locked memory, because they come from a GPU.
    """

    def __init__(
        self,
        *,
        core: Box,
        row: int,
        depth: int,
        output_format: OutputFormat,
        send: Callable[[Rows], None],
        pinned: bool,
    ) -> None:
        self.core, self.row, self.depth, self.pinned = core, row, depth, pinned
        self._format, self._send = output_format, send
        self._start = row
        self._values: Tensor | None = None

    def append(self, stored: Tensor) -> None:
        """Append rows.

        Args:
            stored: [z, y, x] or [planes, z, y, x] as the output format gives them, on any device.
        """
        done, count = 0, stored.shape[-3]
        while done < count:
            stop = min((self.row // self.depth + 1) * self.depth, self.core[0].stop)  # end of the present shards
            if self._values is None:
                shape = self._format.shape((stop - self.row, *(axis.stop - axis.start for axis in self.core[1:])))
                self._values = torch.empty(shape, dtype=stored.dtype, pin_memory=self.pinned)
                self._start = self.row
            rows = min(count - done, stop - self.row)
            target = slice(self.row - self._start, self.row - self._start + rows)
            # Plane by plane, because only a copy between contiguous tensors may be asynchronous.
            for plane, new in zip(_planes(self._values), _planes(stored), strict=True):
                plane[target].copy_(new[done : done + rows], non_blocking=True)
            self.row, done = self.row + rows, done + rows
            if self.row == stop:
                self._flush(stored.device)

    def _flush(self, device: torch.device) -> None:
        assert self._values is not None
        ready = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None
        box = (slice(self._start, self.row), self.core[1], self.core[2])
        values, self._values = self._values, None
        self._send(Rows(box, values, ready))


def _planes(values: Tensor) -> Sequence[Tensor]:
    """The planes [z, y, x] of stored numbers with or without a channel axis."""
    return values.unbind() if values.ndim == 4 else (values,)


class Writer:
    """A thread that writes rows of shards and reports each when it is stored.

    Args:
        sink: the output.
        dtype: stored type.
        on_written: called with each box after its write has returned.
        is_written: whether another process has written a box meanwhile, with the same bytes; it is not written again.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        dtype: np.dtype[Any],
        on_written: Callable[[Box], None],
        is_written: Callable[[Box], bool] = lambda box: False,
    ) -> None:
        self.sink, self.dtype, self._on_written, self._is_written = sink, dtype, on_written, is_written
        self._queue: BoundedQueue[Rows] = BoundedQueue(1)
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)
        self._thread.start()

    def submit(self, rows: Rows) -> None:
        """Hand over rows, waiting while others wait; raises the thread's error."""
        self._queue.put(rows)

    def check(self) -> None:
        """Raise the thread's error, if there was one."""
        self._queue.check()

    def close(self) -> None:
        """Wait until everything is written; raises the thread's error."""
        self._queue.end()
        self._thread.join()
        self._queue.check()

    def _work(self) -> None:
        try:
            while True:
                rows = self._queue.get()
                if rows.ready is not None:
                    rows.ready.synchronize()
                if not self._is_written(rows.box):
                    self._write(rows)
                    self._on_written(rows.box)
                del rows
        except QueueEnd:
            pass
        except BaseException as error:
            self._queue.fail(error)

    def _write(self, rows: Rows) -> None:
        values = rows.values.numpy()
        # uint16 arrives as int16 with the same bits.
        block = values if values.dtype == self.dtype else values.view(self.dtype)
        try:
            self.sink.write(rows.box, block)
        except SeewhyError:
            if self._is_written(rows.box):  # a process that has finished the output may remove unfinished files
                return
            raise
        except OSError as error:
            spans = ", ".join(f"{axis.start}:{axis.stop}" for axis in rows.box)
            reason = error.strerror or str(error)
            raise DataError(
                f"voxels [{spans}] of the result cannot be written ({reason}); what was written is kept: "
                "fix the cause and start again to continue"
            ) from error
