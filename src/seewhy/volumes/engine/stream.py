"""Patches and instructions in the order of addition, as batches of one size: what runs ahead of the network.

The rows of input that patches still need, each read once while they move down along z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seewhy.errors import DataError
from seewhy.io.zarr.source import Box, VolumeSource, box_shape
from seewhy.volumes.geometry import clip
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.plan import Unit

__all__ = ["Add", "Advance", "Begin", "Command", "PatchStream", "Slab", "Work"]


class Slab:
    """A ring of input rows of one tile, filled in whole rows of chunks, one piece read ahead.

    Args:
        source: the volume.
        window: the voxels the tile's patches read.
        depth: rows of a patch.
        piece: rows that are read at a time, cut at its multiples.
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
        """Rows before this one have been read, or skipped."""
        self._ahead: tuple[Box, Future[NDArray[Any]]] | None = None

    def load(self, start: int, stop: int) -> None:
        """Make the rows from `start` to `stop` available; `start` never goes back."""
        # Rows that no patch ran on need not be read at all.
        self.loaded = max(self.loaded, start // self.piece * self.piece, self.window[0].start)
        while self.loaded < min(stop, self.window[0].stop):
            box = self._next(self.loaded)
            self._store(box, self._fetch(box))
            self.loaded = box[0].stop

    def patch(self, box: Box) -> NDArray[Any]:
        """The voxels of a patch that lie in the volume, [C, z, y, x] of the source's type, contiguous."""
        inside = clip(box, self.source.shape[1:])
        shape = box_shape(inside)
        result = np.empty((self.ring.shape[0], *shape), dtype=self.ring.dtype)
        y, x = (
            slice(axis.start - whole.start, axis.stop - whole.start)
            for axis, whole in zip(inside[1:], self.window[1:], strict=True)
        )
        done = 0
        while done < shape[0]:
            place = (inside[0].start + done) % self.rows
            rows = min(shape[0] - done, self.rows - place)
            result[:, done : done + rows] = self.ring[:, place : place + rows, y, x]
            done += rows
        return result

    def _next(self, row: int) -> Box:
        """The piece that begins with a row."""
        stop = min((row // self.piece + 1) * self.piece, self.window[0].stop)
        return slice(row, stop), self.window[1], self.window[2]

    def _fetch(self, box: Box) -> NDArray[Any] | None:
        """Values of a piece, None where it holds the fill value only; the next one is asked for meanwhile."""
        ahead, self._ahead = self._ahead, None
        future = ahead[1] if ahead is not None and ahead[0] == box else self._ask(box)
        values = None if future is None else future.result()
        if box[0].stop < self.window[0].stop:
            following = self._next(box[0].stop)
            asked = self._ask(following)
            self._ahead = None if asked is None else (following, asked)
        return values

    def _ask(self, box: Box) -> Future[NDArray[Any]] | None:
        return self._reader.submit(self.source.read, box) if self._occupied(box) else None

    def _store(self, box: Box, values: NDArray[Any] | None) -> None:
        done, count = 0, box[0].stop - box[0].start
        while done < count:
            place = (box[0].start + done) % self.rows
            rows = min(count - done, self.rows - place)
            part: Any = self.source.fill_value if values is None else values[:, done : done + rows]
            self.ring[:, place : place + rows] = part
            done += rows


Position = tuple[int, int, int]
LONGEST = 4096
"""Instructions that may pile up while nothing but skipped patches comes."""


class Begin(NamedTuple):
    """A tile starts at a row."""

    unit: Unit
    row: int


class Add(NamedTuple):
    """A patch counts: the logits of a slot of the batch, or declared background where the slot is None."""

    position: Position
    slot: int | None


class Advance(NamedTuple):
    """The rows before this one are final."""

    row: int


Command = Begin | Add | Advance


class Work:
    """One batch and what to do with its logits; no batch where all patches were skipped.

    Not a tuple or dataclass, so that Lightning hands it through as it is.
    """

    __slots__ = ("commands", "image", "starts")

    def __init__(self, image: Tensor | None, commands: list[Command], starts: list[Position]) -> None:
        self.image, self.commands, self.starts = image, commands, starts


class PatchStream:
    """Reads, normalises and batches the patches of some tiles.

    Args:
        source: the volume.
        tiles: tiles, each with the first row that is not written yet.
        normalize: of patches.
        batch_size: patches per batch; the last one is filled up with zeros.
        piece: rows of input that are read at a time.
        skip_empty: leave out patches that hold one value only in every channel.
        pinned: make batches in page-locked memory, for copies to a GPU that do not wait.
    """

    def __init__(
        self,
        *,
        source: VolumeSource,
        tiles: Sequence[tuple[Unit, int]],
        normalize: ChannelNormalization,
        batch_size: int,
        piece: int,
        skip_empty: bool,
        pinned: bool = False,
    ) -> None:
        self.source, self.tiles, self.normalize = source, tiles, normalize
        self.batch_size, self.piece, self.skip_empty, self.pinned = batch_size, piece, skip_empty, pinned
        self._image: Tensor | None = None
        self._commands: list[Command] = []
        self._starts: list[Position] = []

    def __iter__(self) -> Iterator[Work]:
        """All work of the tiles, in order."""
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            for unit, row in self.tiles:
                yield from self._tile(unit, row, reader)
            if self._commands:
                yield self._pack()

    def _tile(self, unit: Unit, row: int, reader: ThreadPoolExecutor) -> Iterator[Work]:
        self._commands.append(Begin(unit, row))
        slab = Slab(
            source=self.source,
            window=unit.window,
            depth=unit.grid.patch[0],
            piece=self.piece,
            reader=reader,
            occupied=self._occupied,
        )
        for step in unit.steps(row):
            for y in step.ys:
                for x in step.xs:
                    position = (step.z, y, x)
                    values = self._values(slab, unit.grid.box(position))
                    if values is None:
                        self._commands.append(Add(position, None))
                    else:
                        self._fill(values, unit, position)
                    if len(self._starts) == self.batch_size or len(self._commands) >= LONGEST:
                        yield self._pack()
            self._commands.append(Advance(step.final))

    def _occupied(self, box: Box) -> bool:
        return not self.skip_empty or self.source.occupied(box)

    def _values(self, slab: Slab, box: Box) -> NDArray[Any] | None:
        """A patch's voxels inside the volume, or None where the patch is skipped."""
        if not self._occupied(clip(box, self.source.shape[1:])):
            return None
        slab.load(box[0].start, box[0].stop)
        values = slab.patch(box)
        return None if self.skip_empty and _homogeneous(values) else values

    def _fill(self, values: NDArray[Any], unit: Unit, position: Position) -> None:
        """Normalise a patch into the next slot; what lies outside the volume is zero, as after normalisation."""
        if self._image is None:
            shape = (self.batch_size, self.source.shape[0], *unit.grid.patch)
            self._image = torch.empty(shape, dtype=torch.float32, pin_memory=self.pinned)
        slot, box = len(self._starts), unit.grid.box(position)
        image = self._image.numpy()[slot]
        inside = clip(box, self.source.shape[1:])
        place = tuple(slice(i.start - b.start, i.stop - b.start) for i, b in zip(inside, box, strict=True))
        if values.shape[1:] != image.shape[1:]:
            image[...] = 0
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            where = ", ".join(f"{axis.start}:{axis.stop}" for axis in inside)
            raise DataError(
                f"{self.source.path}: voxels of [{where}] are not finite (NaN or infinite), and a network makes all of "
                "them so; give them a number, e.g. that of the background"
            )
        self.normalize(values, image[(slice(None), *place)])
        self._commands.append(Add(position, slot))
        self._starts.append((box[0].start, box[1].start, box[2].start))

    def _pack(self) -> Work:
        """What has piled up, as one piece of work; empty slots are zeros."""
        if self._image is not None:
            self._image[len(self._starts) :] = 0
        work = Work(self._image, self._commands, self._starts)
        self._image, self._commands, self._starts = None, [], []
        return work


def _homogeneous(values: NDArray[Any]) -> bool:
    """Whether every channel holds one value only, and no NaN."""
    corner = values[:, :1, :1, :1]
    if not np.array_equal(values[:, ::7, ::7, ::7], np.broadcast_to(corner, values[:, ::7, ::7, ::7].shape)):
        return False
    return bool((values == corner).all())
