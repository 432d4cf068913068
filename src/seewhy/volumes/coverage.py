"""Which shards of the output are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from seewhy.io.volume_base import Box

__all__ = ["Coverage"]


class Coverage:
    """One flag per shard.

    Args:
        shape: the volume, ZYX.
        shard: of the output, ZYX.
        boxes: what is written; whole shards, or to the volume's end.
    """

    def __init__(self, *, shape: Sequence[int], shard: Sequence[int], boxes: Iterable[Box] = ()) -> None:
        self.shard = tuple(shard)
        self.written = np.zeros([-(-n // s) for n, s in zip(shape, shard, strict=True)], dtype=bool)
        for box in boxes:
            self.written[self._shards(box)] = True

    def first_open_row(self, core: Box) -> int:
        """The first row of a tile that is not written in its whole breadth; its end where all are."""
        rows = self.written[self._shards(core)].all(axis=(1, 2))
        if rows.all():
            return int(core[0].stop)
        return max(int(core[0].start), (core[0].start // self.shard[0] + int(rows.argmin())) * self.shard[0])

    def complete(self, region: Box) -> bool:
        """Whether all of a region is written."""
        return bool(self.written[self._shards(region)].all())

    def _shards(self, box: Box) -> tuple[slice, ...]:
        return tuple(
            slice(axis.start // size, -(-axis.stop // size)) for axis, size in zip(box, self.shard, strict=True)
        )
