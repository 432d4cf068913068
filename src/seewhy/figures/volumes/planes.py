"""Three orthogonal planes through one point of a volume, read as thin boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.zarr.source import Box

__all__ = ["Planes", "informative_point", "read_planes"]

Array = NDArray[Any]
Point = tuple[int, int, int]


@dataclass(frozen=True)
class Planes:
    """Planes through one point.

    Attributes:
        axial: [Y, X], at the point's Z.
        coronal: [Z, X], at its Y.
        sagittal: [Z, Y], at its X.
        point: their common voxel (Z, Y, X).
    """

    axial: Array
    coronal: Array
    sagittal: Array
    point: Point

    def __iter__(self) -> Any:
        """The three, in this order."""
        return iter((self.axial, self.coronal, self.sagittal))

    def map(self, change: Callable[[Array], Array]) -> Planes:
        """The same planes after a change of their values."""
        return Planes(change(self.axial), change(self.coronal), change(self.sagittal), self.point)


def read_planes(read: Callable[[Box], Array], shape: Sequence[int], point: Point, *, channel: int = 0) -> Planes:
    """Read three planes and no more: three boxes that are one voxel thick.

    Args:
        read: gives [C, z, y, x] or [z, y, x] of a box, as `VolumeSource.read` does.
        shape: of the volume along Z, Y and X.
        point: (Z, Y, X) inside.
        channel: which to take of several.
    """
    found = []
    for axis, place in enumerate(point):
        spans = [slice(0, int(size)) for size in shape]
        spans[axis] = slice(int(place), int(place) + 1)
        values = np.asarray(read((spans[0], spans[1], spans[2])))
        values = values[channel] if values.ndim == 4 else values
        found.append(np.take(values, 0, axis=axis))
    return Planes(found[0], found[1], found[2], point)


def informative_point(labels: Array) -> Point:
    """A voxel whose three planes show much of the foreground; the middle where there is none.

    Z is the row with most of it, Y the row with most in that plane, X the column with most along both, so that the
    voxel itself is foreground wherever a plane has any.

    Args:
        labels: [Z, Y, X], or a coarse level of it; above 0 is foreground. Signed maps count by their magnitude.
    """
    weight = np.abs(labels.astype(np.float32)) if labels.dtype.kind == "f" else (labels > 0).astype(np.float32)
    if not weight.any():
        z, y, x = (size // 2 for size in labels.shape)
        return z, y, x
    z = int(weight.sum(axis=(1, 2)).argmax())
    plane = weight[z]
    y = int(plane.sum(axis=1).argmax())
    row = plane[y]
    # Of the voxels of that row that are foreground, the one with most of it below and above.
    x = int(np.where(row > 0, weight[:, y, :].sum(axis=0) + row, -1).argmax())
    return z, y, x
