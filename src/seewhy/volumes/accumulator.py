"""Blended logits of a tile, held only for the rows that patches still reach."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from seewhy.io.volume_base import Box

__all__ = ["Accumulator"]


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
