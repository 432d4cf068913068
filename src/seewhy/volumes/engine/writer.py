"""Finished rows on their way to the store: gathered into whole shards, written behind, noted in the ledger."""

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
from seewhy.volumes.output_format import OutputFormat

__all__ = ["ArraySink", "RowBuffer", "Sink", "Writer"]


class Sink(Protocol):
    """What takes the result; `seewhy.io.zarr.sink.VolumeSink` is one."""

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Store whole shards; returns when they are stored."""


class ArraySink:
    """An array in memory as an output.

    Args:
        array: [Z, Y, X] or [K, Z, Y, X].
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Copy a block to its place."""
        self.array[(..., *box)] = block


class Rows(NamedTuple):
    """Whole shards of one tile."""

    box: Box
    values: Tensor
    ready: torch.cuda.Event | None
    """When the copy from the GPU is done."""


class RowBuffer:
    """Gathers the rows of one tile until they fill shards.

    Args:
        core: the tile.
        row: the first row that comes.
        depth: rows of a shard.
        head: says the type and the planes.
        send: takes whole shards.
        pinned: hold rows in page-locked memory, since they come from a GPU.
    """

    def __init__(
        self, *, core: Box, row: int, depth: int, head: OutputFormat, send: Callable[[Rows], None], pinned: bool
    ) -> None:
        self.core, self.row, self.depth, self.head, self._send, self.pinned = core, row, depth, head, send, pinned
        self._start = row
        self._values: Tensor | None = None

    def put(self, stored: Tensor) -> None:
        """Append rows.

        Args:
            stored: [z, y, x] or [planes, z, y, x] as the head gives them, on any device.
        """
        done, count = 0, stored.shape[-3]
        while done < count:
            stop = self._end()
            if self._values is None:
                shape = self.head.shape((stop - self.row, *(axis.stop - axis.start for axis in self.core[1:])))
                self._values = torch.empty(shape, dtype=stored.dtype, pin_memory=self.pinned)
                self._start = self.row
            rows = min(count - done, stop - self.row)
            place = slice(self.row - self._start, self.row - self._start + rows)
            # Plane by plane, since only a copy between contiguous tensors may run without waiting.
            for plane, rest in zip(_planes(self._values), _planes(stored), strict=True):
                plane[place].copy_(rest[done : done + rows], non_blocking=True)
            self.row, done = self.row + rows, done + rows
            if self.row == stop:
                self._flush(stored.device)

    def _end(self) -> int:
        """Where the shards that hold the next row end."""
        return min((self.row // self.depth + 1) * self.depth, self.core[0].stop)

    def _flush(self, device: torch.device) -> None:
        assert self._values is not None
        ready = None
        if device.type == "cuda":
            ready = torch.cuda.current_stream(device).record_event()
        box = (slice(self._start, self.row), self.core[1], self.core[2])
        values, self._values = self._values, None
        self._send(Rows(box, values, ready))


def _planes(values: Tensor) -> Sequence[Tensor]:
    """The planes [z, y, x] of stored numbers with or without a channel axis."""
    return values.unbind() if values.ndim == 4 else (values,)


class Writer:
    """A thread that stores rows of shards and notes each when it is stored.

    Args:
        sink: the output.
        dtype: of what is stored.
        written: called with each box after its write has returned.
    """

    def __init__(self, *, sink: Sink, dtype: np.dtype[Any], written: Callable[[Box], None]) -> None:
        self.sink, self.dtype, self._written = sink, dtype, written
        self._channel: BoundedQueue[Rows] = BoundedQueue(1)
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)
        self._thread.start()

    def put(self, rows: Rows) -> None:
        """Hand over rows; waits while others are waiting. Raises what the thread failed with."""
        self._channel.put(rows)

    def check(self) -> None:
        """Raise what the thread failed with, if it did."""
        self._channel.check()

    def close(self) -> None:
        """Wait until everything is written; raises what the thread failed with."""
        self._channel.end()
        self._thread.join()
        self._channel.check()

    def _work(self) -> None:
        try:
            while True:
                rows = self._channel.get()
                if rows.ready is not None:
                    rows.ready.synchronize()
                self._store(rows)
                self._written(rows.box)
                del rows
        except QueueEnd:
            pass
        except BaseException as error:
            self._channel.fail(error)

    def _store(self, rows: Rows) -> None:
        values = rows.values.numpy()
        # uint16 comes as int16 of the same bits.
        block = values if values.dtype == self.dtype else values.view(self.dtype)
        try:
            self.sink.write(rows.box, block)
        except SeewhyError:
            raise
        except OSError as error:
            place = ", ".join(f"{axis.start}:{axis.stop}" for axis in rows.box)
            reason = error.strerror or str(error)
            raise DataError(
                f"the result's voxels [{place}] cannot be written ({reason}); what is written is kept: "
                "mend it and start again to go on"
            ) from error
