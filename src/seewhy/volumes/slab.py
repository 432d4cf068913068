"""The rows of input that patches still need, each read once while they move down along z."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.volume_base import Box, VolumeSource, box_shape
from seewhy.volumes.box import clip

__all__ = ["Slab"]


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
