"""Written shards of a volume, one flag per shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.source import Box
from seewhy.volumes.plan import Plan

__all__ = ["Coverage"]


class Coverage:
    """Written shards of a volume, one flag per shard.

    Args:
        shape: of the volume, ZYX.
        shard: of the output, ZYX.
        boxes: written boxes; whole shards, or up to the volume's end.
    """

    def __init__(self, *, shape: Sequence[int], shard: Sequence[int], boxes: Iterable[Box] = ()) -> None:
        self.shard = tuple(shard)
        self.written = np.zeros([-(-n // s) for n, s in zip(shape, shard, strict=True)], dtype=bool)
        for box in boxes:
            self.add(box)

    def add(self, box: Box) -> None:
        """Mark a box as written."""
        self.written[self._shards(box)] = True

    def units(self, plan: Plan) -> NDArray[np.bool_]:
        """Flags [tile, unit] of a plan's units that are completely written."""
        return np.stack([self.written[self._shards(tile.core)].all(axis=(1, 2)) for tile in plan.tiles])

    def is_complete(self, region: Box) -> bool:
        """Whether a region is completely written."""
        return bool(self.written[self._shards(region)].all())

    def select(self, region: Box) -> NDArray[np.bool_]:
        """Flags of the shards that a region touches."""
        flags = np.zeros_like(self.written)
        flags[self._shards(region)] = True
        return flags

    def _shards(self, box: Box) -> tuple[slice, ...]:
        return tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.shard, strict=True)
        )
