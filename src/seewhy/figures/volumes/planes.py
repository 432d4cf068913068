"""Three orthogonal planes through one voxel of a volume, read as thin boxes."""

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
    """Planes through one voxel.

    Attributes:
        axial: [Y, X], at Z of the point.
        coronal: [Z, X], at Y of the point.
        sagittal: [Z, Y], at X of the point.
        point: common voxel (Z, Y, X).
    """

    axial: Array
    coronal: Array
    sagittal: Array
    point: Point

    def __iter__(self) -> Any:
        """Iterate over axial, coronal and sagittal plane."""
        return iter((self.axial, self.coronal, self.sagittal))

    def map(self, change: Callable[[Array], Array]) -> Planes:
        """Apply a function to the values of the three planes."""
        return Planes(change(self.axial), change(self.coronal), change(self.sagittal), self.point)


def read_planes(read: Callable[[Box], Array], shape: Sequence[int], point: Point, *, channel: int = 0) -> Planes:
    """Read only three planes, as boxes that are one voxel thick.

    Args:
        read: function that returns [C, z, y, x] or [z, y, x] of a box, such as `VolumeSource.read`.
        shape: size of the volume along Z, Y and X.
        point: voxel (Z, Y, X) inside the volume.
        channel: channel to use if there are several.

    Example:
        >>> volume = np.arange(24).reshape(2, 3, 4)
        >>> planes = read_planes(lambda box: volume[box], volume.shape, (1, 2, 3))
        >>> planes.sagittal.tolist()
        [[3, 7, 11], [15, 19, 23]]
    """
    planes = []
    for axis, place in enumerate(point):
        spans = [slice(0, int(size)) for size in shape]
        spans[axis] = slice(int(place), int(place) + 1)
        values = np.asarray(read((spans[0], spans[1], spans[2])))
        values = values[channel] if values.ndim == 4 else values
        planes.append(np.take(values, 0, axis=axis))
    return Planes(planes[0], planes[1], planes[2], point)


def informative_point(labels: Array) -> Point:
    """Choose a voxel whose three planes show much foreground; or the centre without foreground.

    Z is the slice with most foreground, Y its row with most foreground, and X the best column of that row, so that the
    voxel itself is foreground.

    Args:
        labels: [Z, Y, X], or a coarse level of it; above 0 is foreground. Float maps are weighted by magnitude.
    """
    weight = np.abs(labels.astype(np.float32)) if labels.dtype.kind == "f" else (labels > 0).astype(np.float32)
    if not weight.any():
        z, y, x = (size // 2 for size in labels.shape)
        return z, y, x
    z = int(weight.sum(axis=(1, 2)).argmax())
    plane = weight[z]
    y = int(plane.sum(axis=1).argmax())
    row = plane[y]
    # Of the foreground voxels of that row, the one with most foreground below and above.
    x = int(np.where(row > 0, weight[:, y, :].sum(axis=0) + row, -1).argmax())
    return z, y, x
