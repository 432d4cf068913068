"""Stream of patches: read input rows once, normalize patches, and batch them with the commands for blending."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.zarr.source import Box, VolumeSource, box_shape
from seewhy.volumes.engine.work import Span, WorkQueue
from seewhy.volumes.geometry import clip
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.plan import Tile

__all__ = ["Add", "Advance", "Begin", "Command", "InputRows", "PatchStream", "Position", "Work"]

Position = tuple[int, int, int]
"""Position of a patch in the grid along z, y and x."""
LONGEST = 4096
"""Commands that may accumulate while all patches are skipped."""


class Begin(NamedTuple):
    """Start a tile at a row."""

    tile: Tile
    row: int


class Add(NamedTuple):
    """Add the logits of a slot of the batch, or declared background if the slot is None."""

    position: Position
    slot: int | None


class Advance(NamedTuple):
    """The rows before this one are final."""

    row: int


Command = Begin | Add | Advance


class Work:
    """One batch and the commands for its logits; without a batch if all patches were skipped.

    Neither a tuple nor a dataclass, so that Lightning passes it on unchanged.
    """

    __slots__ = ("commands", "image", "starts")

    def __init__(self, image: Tensor | None, commands: list[Command], starts: list[Position]) -> None:
        self.image, self.commands, self.starts = image, commands, starts


class InputRows:
    """A ring of input rows of one tile, filled in whole rows of chunks, one piece ahead.

    Args:
        source: the volume.
        window: voxels that the tile's patches read.
        depth: rows of a patch.
        piece: rows per read; reads are aligned to multiples of it.
        reader: runs the reads.
        occupied: whether a box may hold anything but the fill value; other pieces are not read.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        window: Box,
        depth: int,
        piece: int,
        reader: ThreadPoolExecutor,
        occupied: Callable[[Box], bool],
    ) -> None:
        self.source, self.window, self.piece = source, window, piece
        self._reader, self._occupied = reader, occupied
        self.rows = min(depth + piece, window[0].stop - window[0].start)
        shape = (source.shape[0], self.rows, *box_shape(window)[1:])
        self.ring: NDArray[Any] = np.empty(shape, dtype=source.dtype)
        self.loaded = window[0].start
        """Rows before this one were read, or skipped."""
        self.limit = window[0].stop
        """Rows from this one on are not read ahead, as another process may compute their patches."""
        self._ahead: tuple[Box, Future[NDArray[Any]]] | None = None

    def load(self, start: int, stop: int) -> None:
        """Make the rows from `start` to `stop` available; `start` never decreases."""
        # Rows that no patch needs are not read at all.
        self.loaded = max(self.loaded, start // self.piece * self.piece, self.window[0].start)
        while self.loaded < min(stop, self.window[0].stop):
            box = self._piece(self.loaded)
            self._store(box, self._fetch(box))
            self.loaded = box[0].stop

    def patch(self, box: Box) -> NDArray[Any]:
        """Voxels of a patch that lie in the volume, [C, z, y, x] in the source's type, contiguous."""
        inside = clip(box, self.source.shape[1:])
        shape = box_shape(inside)
        result = np.empty((self.ring.shape[0], *shape), dtype=self.ring.dtype)
        y, x = (
            slice(axis.start - whole.start, axis.stop - whole.start)
            for axis, whole in zip(inside[1:], self.window[1:], strict=True)
        )
        done = 0
        while done < shape[0]:
            offset = (inside[0].start + done) % self.rows
            rows = min(shape[0] - done, self.rows - offset)
            result[:, done : done + rows] = self.ring[:, offset : offset + rows, y, x]
            done += rows
        return result

    def _piece(self, row: int) -> Box:
        """The piece that starts at a row."""
        stop = min((row // self.piece + 1) * self.piece, self.window[0].stop)
        return slice(row, stop), self.window[1], self.window[2]

    def _fetch(self, box: Box) -> NDArray[Any] | None:
        """Values of a piece, None if it holds the fill value only; submits the read of the next piece."""
        ahead, self._ahead = self._ahead, None
        future = ahead[1] if ahead is not None and ahead[0] == box else self._submit(box)
        values = None if future is None else future.result()
        if box[0].stop < min(self.limit, self.window[0].stop):
            following = self._piece(box[0].stop)
            submitted = self._submit(following)
            self._ahead = None if submitted is None else (following, submitted)
        return values

    def _submit(self, box: Box) -> Future[NDArray[Any]] | None:
        return self._reader.submit(self.source.read, box) if self._occupied(box) else None

    def _store(self, box: Box, values: NDArray[Any] | None) -> None:
        done, count = 0, box[0].stop - box[0].start
        while done < count:
            offset = (box[0].start + done) % self.rows
            rows = min(count - done, self.rows - offset)
            part: Any = self.source.fill_value if values is None else values[:, done : done + rows]
            self.ring[:, offset : offset + rows] = part
            done += rows


class PatchStream:
    """Claims units, and reads, normalizes and batches their patches.

    Args:
        source: the volume.
        queue: units that are not written yet.
        check: raises the error of whoever receives the batches, which would otherwise be waited for forever.
        normalize: normalizes patches.
        batch_size: patches per batch; the last batch is padded with zeros.
        piece: rows of input per read.
        skip_empty: skip patches that hold one value only in every channel.
        pinned: create batches in page-locked memory, for asynchronous copies to a GPU.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        queue: WorkQueue,
        check: Callable[[], None],
        normalize: ChannelNormalization,
        batch_size: int,
        piece: int,
        skip_empty: bool,
        pinned: bool = False,
    ) -> None:
        self.source, self.queue, self.check, self.normalize = source, queue, check, normalize
        self.batch_size, self.piece, self.skip_empty, self.pinned = batch_size, piece, skip_empty, pinned
        self._image: Tensor | None = None
        self._commands: list[Command] = []
        self._starts: list[Position] = []

    def __iter__(self) -> Iterator[Work]:
        """Work until all units are written or claimed, and those of lost processes after that."""
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            while True:
                span = self.queue.next_span()
                if span is not None:
                    yield from self._walk(span, reader)
                elif self._commands:
                    yield self._pack()  # own rows must be written before others are waited for
                    yield from self._push()
                else:
                    self.check()
                    if not self.queue.wait():
                        return

    def _push(self) -> Iterator[Work]:
        """A batch without patches, if others are waited for: Lightning fetches one batch ahead before it runs one."""
        if self.queue.wait():
            yield Work(torch.zeros((self.batch_size, self.source.shape[0], *self._patch)), [], [])

    @property
    def _patch(self) -> tuple[int, int, int]:
        return self.queue.plan.costs.grid.patch

    def _walk(self, span: Span, reader: ThreadPoolExecutor) -> Iterator[Work]:
        tile = span.tile
        self._commands.append(Begin(tile, span.row))
        rows = InputRows(
            source=self.source,
            window=tile.window,
            depth=tile.grid.patch[0],
            piece=self.piece,
            reader=reader,
            occupied=self._occupied,
        )
        for step in span.steps():
            rows.limit = span.reach
            for y in step.ys:
                for x in step.xs:
                    position = (step.z, y, x)
                    values = self._values(rows, tile.grid.box(position))
                    if values is None:
                        self._commands.append(Add(position, None))
                    else:
                        self._fill(values, tile, position)
                    if len(self._starts) == self.batch_size or len(self._commands) >= LONGEST:
                        yield self._pack()
            self._commands.append(Advance(step.final))

    def _occupied(self, box: Box) -> bool:
        return not self.skip_empty or self.source.occupied(box)

    def _values(self, rows: InputRows, box: Box) -> NDArray[Any] | None:
        """A patch's voxels inside the volume, or None if the patch is skipped."""
        if not self._occupied(clip(box, self.source.shape[1:])):
            return None
        rows.load(box[0].start, box[0].stop)
        values = rows.patch(box)
        return None if self.skip_empty and _is_homogeneous(values) else values

    def _fill(self, values: NDArray[Any], tile: Tile, position: Position) -> None:
        """Normalize a patch into the next slot; voxels outside the volume are zero after normalization."""
        if self._image is None:
            shape = (self.batch_size, self.source.shape[0], *tile.grid.patch)
            self._image = torch.empty(shape, dtype=torch.float32, pin_memory=self.pinned)
        slot, box = len(self._starts), tile.grid.box(position)
        image = self._image.numpy()[slot]
        inside = clip(box, self.source.shape[1:])
        target = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(inside, box, strict=True))
        if values.shape[1:] != image.shape[1:]:
            image[...] = 0
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            spans = ", ".join(f"{axis.start}:{axis.stop}" for axis in inside)
            raise DataError(
                f"{self.source.path}: voxels of [{spans}] are not finite (NaN or infinite), which makes all logits of "
                "a patch NaN; replace them with a number, e.g. that of the background"
            )
        self.normalize(values, image[(slice(None), *target)])
        self._commands.append(Add(position, slot))
        self._starts.append((box[0].start, box[1].start, box[2].start))

    def _pack(self) -> Work:
        """The accumulated batch and commands; empty slots are zeros."""
        if self._image is not None:
            self._image[len(self._starts) :] = 0
        work = Work(self._image, self._commands, self._starts)
        self._image, self._commands, self._starts = None, [], []
        return work


def _is_homogeneous(values: NDArray[Any]) -> bool:
    """Whether every channel holds one finite value only."""
    corner = values[:, :1, :1, :1]
    sample = values[:, ::7, ::7, ::7]  # rejects most patches without a full pass
    if not np.array_equal(sample, np.broadcast_to(corner, sample.shape)):
        return False
    return bool((values == corner).all() and np.isfinite(corner).all())
