"""Boxes of voxels: one slice per axis in the order z, y, x, with start and stop."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from seewhy.io.volume_base import Box

__all__ = ["box_of", "clip", "split", "voxels"]


def box_of(starts: Sequence[int], stops: Sequence[int]) -> Box:
    """The box from `starts` (inside) to `stops` (outside), both ZYX."""
    z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def voxels(box: Box) -> int:
    """How many voxels lie in a box; 0 where an axis is empty."""
    return math.prod(max(0, axis.stop - axis.start) for axis in box)


def clip(box: Box, shape: Sequence[int]) -> Box:
    """The part of a box that lies in a volume of `shape`; with an empty axis where they do not meet."""
    starts = [min(max(axis.start, 0), size) for axis, size in zip(box, shape, strict=True)]
    stops = [max(min(axis.stop, size), start) for axis, size, start in zip(box, shape, starts, strict=True)]
    return box_of(starts, stops)


def split(box: Box, size: Sequence[int]) -> Iterator[Box]:
    """The boxes of a grid of `size` anchored at the origin that together are `box`, in the order z, y, x.

    Boxes at its borders are cut off where `box` ends inside a cell of the grid.
    """
    spans = [
        [
            (max(axis.start, low), min(axis.stop, low + step))
            for low in range(axis.start // step * step, axis.stop, step)
        ]
        for axis, step in zip(box, size, strict=True)
    ]
    for z in spans[0]:
        for y in spans[1]:
            for x in spans[2]:
                yield box_of((z[0], y[0], x[0]), (z[1], y[1], x[1]))
