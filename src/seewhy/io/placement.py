"""Placement of a model's grid in a source array: crop, resize and pad, and the inverse for maps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.checks.sizes import check_memory
from seewhy_run.arrays.resizing import nearest_voxel, resize

__all__ = ["Placement"]

Ends = tuple[tuple[int, int], ...]
LARGE = 1 << 28
"""Voxels of a grid above which it is compared with the machine's memory."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Steps from a source array to a model's grid: move the slice axis to the front, crop, resize, pad.

    `apply` brings an image to the grid, `restore` brings a map back; both depend only on these numbers. Crop, size
    and padding are in the order of the grid's axes: the slice axis first, then the others as stored.

    Attributes:
        source: the file, or an empty string.
        shape: of the source array, two or three axes, as stored.
        axis: axis of the source that becomes the first of the grid; None keeps the order.
        crop: first voxel and one past the last voxel, per axis; empty keeps all.
        size: voxels per axis after resizing the crop; empty does not resize.
        pad: voxels added before and after, per axis; empty adds none.

    Raises:
        DataError: numbers that do not describe a grid, or one that does not fit into memory.

    Example:
        >>> placement = Placement(source="", shape=(6, 4), crop=((1, 5), (0, 4)), size=(2, 2), pad=((0, 0), (1, 1)))
        >>> placement.grid
        (2, 4)
        >>> placement.apply(np.ones((6, 4), np.float32))
        array([[0., 1., 1., 0.],
               [0., 1., 1., 0.]], dtype=float32)
        >>> placement.restore(np.ones(placement.grid, np.float32)).sum(axis=1)
        array([0., 4., 4., 4., 4., 0.], dtype=float32)
    """

    source: str
    shape: tuple[int, ...]
    axis: int | None = None
    crop: Ends = ()
    size: tuple[int, ...] = ()
    pad: Ends = ()

    def __post_init__(self) -> None:
        """Fill in empty fields, and check all steps."""
        count, where = len(self.shape), self.source or None
        if count not in (2, 3):
            raise DataError(f"shape {self.shape}; expected two or three axes", where=where)
        if self.axis is not None and not 0 <= self.axis < count:
            raise DataError(f"axis {self.axis}; expected 0 to {count - 1}", where=where)
        crop = self.crop or tuple((0, length) for length in self.full_grid)
        size = self.size or tuple(stop - start for start, stop in crop)
        pad = self.pad or ((0, 0),) * count
        for name, value in (("crop", crop), ("size", size), ("pad", pad)):
            if len(value) != count:
                raise DataError(f"{name} {value}; expected entries for {count} axes", where=where)
            object.__setattr__(self, name, value)
        wrong = [
            f"crop {start}:{stop} along grid axis {number} lies outside 0:{length}"
            for number, ((start, stop), length) in enumerate(zip(crop, self.full_grid, strict=True))
            if not 0 <= start < stop <= length
        ]
        wrong += [f"size {size}; expected 1 or more along every axis"] if min(size) < 1 else []
        wrong += [f"pad {pad}; expected 0 or more"] if min(min(ends) for ends in pad) < 0 else []
        if wrong:
            raise DataError(wrong, where=where)
        if math.prod(self.grid) > LARGE:
            check_memory(f"{self.source or 'an image'}: its grid {self.grid}", 4 * math.prod(self.grid))

    # -- shapes ----------------------------------------------------------------------------------------------

    @property
    def axes(self) -> tuple[int, ...]:
        """The source's axes in the order of the grid."""
        first = () if self.axis is None else (self.axis,)
        return (*first, *(number for number in range(len(self.shape)) if number != self.axis))

    @property
    def full_grid(self) -> tuple[int, ...]:
        """Shape of the source in the order of the grid's axes."""
        return tuple(self.shape[number] for number in self.axes)

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the model's grid."""
        return tuple(size + before + after for size, (before, after) in zip(self.size, self.pad, strict=True))

    def spacing(self, source: tuple[float, ...]) -> tuple[float, ...]:
        """Millimetres between the grid's voxel centres.

        Args:
            source: millimetres along the source's axes, as stored.
        """
        cropped = (stop - start for start, stop in self.crop)
        return tuple(
            source[number] * length / size for number, length, size in zip(self.axes, cropped, self.size, strict=True)
        )

    # -- apply and restore --------------------------------------------------------------------------------------

    def apply(self, array: NDArray[Any], *, order: int = 1, fill: float = 0.0) -> NDArray[Any]:
        """Bring a source array to the model's grid.

        Args:
            array: of `shape`.
            order: 1 interpolates linearly between voxel centres, with a triangle filter as wide as the step when
                shrinking (like Pillow's `BILINEAR`), and returns float32; 0 takes the nearest voxel and keeps the
                type (masks).
            fill: value of the padding.

        Returns:
            An array of the shape `grid`.

        Raises:
            DataError: an array of another shape.
        """
        self._check_shape(array, self.shape, "the source")
        window = tuple(slice(start, stop) for start, stop in self.crop)
        values = resize(np.transpose(array, self.axes)[window], self.size, order)
        return np.pad(values, self.pad, constant_values=fill) if any(map(any, self.pad)) else values

    def restore(self, map_: NDArray[Any], *, order: int = 1, fill: float = 0.0) -> NDArray[Any]:
        """Bring a map from the model's grid back to the source: undo padding, resizing, crop and axis order.

        Values are interpolated, so a map keeps its level, not its sum.

        Args:
            map_: of the shape `grid`.
            order: see `apply`.
            fill: value outside the crop.

        Returns:
            An array of `shape`, aligned with the source voxel by voxel.

        Raises:
            DataError: an array of another shape.
        """
        self._check_shape(map_, self.grid, "the grid")
        inner = tuple(slice(before, before + size) for size, (before, _) in zip(self.size, self.pad, strict=True))
        values = resize(map_[inner], tuple(stop - start for start, stop in self.crop), order)
        whole = np.full(self.full_grid, fill, values.dtype)
        whole[tuple(slice(start, stop) for start, stop in self.crop)] = values
        return np.ascontiguousarray(np.transpose(whole, np.argsort(self.axes)))

    def slice_number(self, position: int) -> int | None:
        """Slice of the source at a position along the grid's first axis; None in the padding.

        If slices were resized, this is the slice nearest to the position's centre.
        """
        (start, stop), size, (before, _) = self.crop[0], self.size[0], self.pad[0]
        inner = position - before
        if not 0 <= inner < size:
            return None
        return start + nearest_voxel(inner, size, stop - start)

    def position(self, number: int) -> int:
        """Position of a slice of the source along the grid's first axis.

        Args:
            number: slice of the source, counted from 0.

        Raises:
            DataError: a slice outside the crop.
        """
        (start, stop), size, (before, _) = self.crop[0], self.size[0], self.pad[0]
        if not start <= number < stop:
            raise DataError(
                f"slice {number} is outside the crop from {start} to {stop - 1} "
                f"(axis {self.axes[0]} has {self.full_grid[0]} slices)",
                where=self.source or None,
            )
        return before + nearest_voxel(number - start, stop - start, size)

    # -- plain data ------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """Plain data for JSON files."""
        return {key: _to_lists(value) for key, value in asdict(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Placement:
        """Restore from `record`.

        Raises:
            DataError: missing or unknown keys, or values that are not numbers.
        """
        fields = cls.__dataclass_fields__
        try:
            if set(record) != set(fields):
                raise KeyError(*sorted(set(record) ^ set(fields)))
            axis = record["axis"]
            return cls(
                source=str(record["source"]),
                shape=tuple(int(length) for length in record["shape"]),
                axis=None if axis is None else int(axis),
                crop=tuple((int(start), int(stop)) for start, stop in record["crop"]),
                size=tuple(int(length) for length in record["size"]),
                pad=tuple((int(before), int(after)) for before, after in record["pad"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{record!r} is not a placement ({error}); expected the keys {', '.join(fields)}"
            ) from error

    def to(self, device: Any, **_: Any) -> Placement:
        """Return itself; without this method Lightning tries to rewrite frozen dataclasses when it moves a batch."""
        return self

    def _check_shape(self, array: NDArray[Any], shape: tuple[int, ...], name: str) -> None:
        if array.shape != shape:
            raise DataError(
                f"array of shape {array.shape}; expected the shape {shape} of {name}", where=self.source or None
            )


def _to_lists(value: Any) -> Any:
    """Convert tuples to lists, as JSON stores them."""
    return [_to_lists(item) for item in value] if isinstance(value, tuple) else value
