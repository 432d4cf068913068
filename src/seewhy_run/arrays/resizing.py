"""Resize arrays axis by axis: antialiased as images are prepared, or as networks resize their maps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fit_length", "fit_sides", "interpolate", "margins", "nearest_voxel", "resize"]


def resize(array: NDArray[Any], size: tuple[int, ...], order: int = 1) -> NDArray[Any]:
    """Resize axis by axis; values along an axis of unchanged length stay exactly the same.

    Args:
        array: of as many axes as `size`.
        size: voxels per axis.
        order: 1 interpolates linearly between voxel centres, with a triangle filter as wide as the step when
            shrinking (like Pillow's `BILINEAR`), and returns float32; 0 takes the nearest voxel and keeps the type.
    """
    if order not in (0, 1):
        raise ValueError(f"order={order}; expected 0 (nearest) or 1 (linear)")
    values = array if order == 0 else array.astype(np.float32, copy=False)
    # The axis that shrinks most comes first, which leaves less work for the others.
    for axis in sorted(range(len(size)), key=lambda axis: size[axis] / array.shape[axis]):
        length = array.shape[axis]
        if length == size[axis]:
            continue
        if order == 0:
            values = np.take(values, [nearest_voxel(index, size[axis], length) for index in range(size[axis])], axis)
        else:
            values = np.moveaxis(np.tensordot(values, _weights(length, size[axis]), ((axis,), (1,))), -1, axis)
    return np.ascontiguousarray(values)


def nearest_voxel(position: int, length: int, other: int) -> int:
    """Voxel of an axis of `other` voxels at the centre of a voxel of an axis of `length` with the same extent."""
    return min(int((position + 0.5) * other / length), other - 1)


@lru_cache(maxsize=64)
def _weights(length: int, size: int) -> NDArray[np.float32]:
    """Matrix [size, length] of linear interpolation between voxel centres, antialiased where size < length."""
    step = length / size
    reach = max(step, 1.0)
    matrix = np.zeros((size, length))
    for index in range(size):
        centre = (index + 0.5) * step
        near = np.arange(max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), length))
        matrix[index, near] = np.maximum(1 - np.abs(near + 0.5 - centre) / reach, 0)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def fit_sides(rows: int, columns: int, size: int | tuple[int, int] | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of a slice after resizing, and after padding.

    Args:
        rows: of the slice.
        columns: of the slice.
        size: the longer side (the shorter follows in proportion and is padded to a square), rows and columns to
            stretch to, or None for no change.

    Example:
        >>> fit_sides(50, 100, 20)
        ((10, 20), (20, 20))
    """
    if size is None:
        return (rows, columns), (rows, columns)
    if isinstance(size, tuple):
        return size, size
    scale = size / max(rows, columns)
    return (max(1, round(rows * scale)), max(1, round(columns * scale))), (size, size)


def margins(side: int, length: int, pad: int) -> tuple[int, int]:
    """Voxels before and after that centre `length` in `side` and add the margin `pad`."""
    before = (side - length) // 2
    return before + pad, side - length - before + pad


def fit_length(
    length: int, box: tuple[int, int], side: int | None, multiple_of: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Crop and padding of an axis that bring it to a side, around the middle of a box where it is cropped.

    Args:
        length: voxels of the axis.
        box: first voxel and the one after the last that are wanted.
        side: voxels to reach; None is the next multiple of `multiple_of`.
        multiple_of: divisor of the side.

    Example:
        >>> fit_length(10, (2, 8), None, 4), fit_length(10, (5, 9), 8, 4)
        (((0, 10), (1, 1)), ((2, 10), (0, 0)))
    """
    side = -(-length // multiple_of) * multiple_of if side is None else side
    if side >= length:
        before = (side - length) // 2
        return (0, length), (before, side - length - before)
    start = min(max((box[0] + box[1] - side) // 2, 0), length - side)
    return (start, start + side), (0, 0)


def interpolate(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize the last two axes as PyTorch's bilinear `interpolate` with `align_corners=False` does: not antialiased.

    Example:
        >>> interpolate(np.array([[0.0, 1.0]], np.float32), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    values = maps
    for axis, length in ((-2, size[0]), (-1, size[1])):
        if values.shape[axis] != length:
            matrix = _bilinear(values.shape[axis], length)
            values = np.moveaxis(np.tensordot(values, matrix, ((axis,), (1,))), -1, axis)
    return np.ascontiguousarray(values, np.float32)


@lru_cache(maxsize=64)
def _bilinear(length: int, size: int) -> NDArray[np.float32]:
    """Matrix [size, length] of linear interpolation between voxel centres, with the ends repeated."""
    centre = np.maximum((np.arange(size) + 0.5) * (length / size) - 0.5, 0)
    low = np.minimum(centre.astype(int), length - 1)
    share = centre - low
    matrix = np.zeros((size, length))
    rows = np.arange(size)
    np.add.at(matrix, (rows, low), 1 - share)
    np.add.at(matrix, (rows, np.minimum(low + 1, length - 1)), share)
    return matrix.astype(np.float32)
