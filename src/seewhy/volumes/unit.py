"""The unit of work: one tile of the output, walked down along z."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from seewhy.io.volume_base import Box
from seewhy.volumes.box import box_of, clip, voxels
from seewhy.volumes.grid import PatchGrid

__all__ = ["Step", "Unit"]


class Step(NamedTuple):
    """All patches of one tile that start at one z."""

    z: int
    """Position along z."""
    ys: range
    xs: range
    final: int
    """Rows before this one are final once the step is added."""

    @property
    def patches(self) -> int:
        """How many they are."""
        return len(self.ys) * len(self.xs)


class Unit:
    """A box of the output that one part writes, and every patch that reaches into it.

    Patches across a border are computed on both sides of it, so that tiles know nothing of each other.

    Args:
        grid: positions over the whole volume.
        core: the voxels to write, whole shards of the output.
    """

    def __init__(self, grid: PatchGrid, core: Box) -> None:
        self.grid, self.core = grid, core
        spans = [grid.covering(axis, place.start, place.stop) for axis, place in enumerate(core)]
        self.zs, self.ys, self.xs = spans

    @property
    def count(self) -> int:
        """Patches of a walk from the top."""
        return len(self.zs) * len(self.ys) * len(self.xs)

    @property
    def window(self) -> Box:
        """The voxels inside the volume that its patches read."""
        first = [span[0] for span in (self.zs, self.ys, self.xs)]
        last = [span[-1] for span in (self.zs, self.ys, self.xs)]
        hull = zip(self.grid.box(first), self.grid.box(last), strict=True)
        starts, stops = zip(*((low.start, high.stop) for low, high in hull), strict=True)
        return clip(box_of(starts, stops), self.grid.shape)

    def steps(self, row: int | None = None) -> Iterator[Step]:
        """The walk along z from a row of the tile on.

        Args:
            row: rows before it are already written: patches that end before it are left out. The top where None.

        Yields:
            Steps in the order of z; the last one completes the tile.
        """
        top, bottom = self.core[0].start if row is None else row, self.core[0].stop
        if top >= bottom:
            return
        zs = self.grid.covering(0, top, bottom)
        for z in zs:
            following = self.grid.starts[0][z + 1] if z + 1 in zs else bottom
            yield Step(z, self.ys, self.xs, min(max(following, top), bottom))

    def __repr__(self) -> str:
        places = ", ".join(f"{axis.start}:{axis.stop}" for axis in self.core)
        return f"Unit([{places}], {self.count} patches, {voxels(self.core)} voxels)"
