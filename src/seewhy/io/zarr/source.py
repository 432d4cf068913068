"""Base class of volumes that are read in boxes, whatever their format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.io.geometry import Geometry
from seewhy.io.zarr.ome import length_in_mm
from seewhy.io.zarr.store import Counters

__all__ = [
    "Box",
    "VolumeSource",
    "box_shape",
    "check_channels",
    "describe_offset",
    "millimetres",
    "native_dtype",
    "volume_geometry",
]

Box: TypeAlias = tuple[slice, slice, slice]
"""Voxels [start, stop) along Z, Y and X; start and stop are always given, step never."""
Triple: TypeAlias = tuple[float, float, float]


class VolumeSource(ABC):
    """A volume that is read in boxes, by several threads; it opens its file again in every process.

    Attributes:
        path: as given.
        shape: (C, Z, Y, X).
        dtype: type of the values that `read` returns, in this machine's byte order.
        chunks: (Z, Y, X), the smallest box that is read at once; (1, 1, 1) if any box can be read alone.
        spacing: distance of voxel centres along Z, Y and X; None if the file does not state it.
        translation: position of the first voxel along Z, Y and X in `unit`; None if the file does not state it.
        unit: of the spacing by its UDUNITS name, e.g. `micrometer`; None if the file does not state it.
        level: name of the pyramid level that was opened; None without a pyramid.
        affine: [4, 4], from indices (X, Y, Z) to RAS+ positions in `unit`, for NIfTI, NRRD and MetaImage only.
        channels: stored channels that are read, in this order.
        fill_value: value of voxels that were never written.
        counters: amount read so far in this process.
    """

    kind: ClassVar[str]
    path: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    chunks: tuple[int, int, int]
    spacing: Triple | None = None
    translation: Triple | None = None
    unit: str | None = None
    level: str | None = None
    affine: NDArray[Any] | None = None
    channels: tuple[int, ...]
    fill_value: float = 0

    def __init__(self) -> None:
        self.counters = Counters()

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box inside the volume.

        Args:
            box: at least one voxel along each axis.

        Returns:
            [C, z, y, x] of type `dtype`, a new array.

        Raises:
            DataError: an empty box or one that extends outside the volume; or values that cannot be read, with the
                chunk in the message.
        """
        for axis, part, size in zip("ZYX", box, self.shape[1:], strict=True):
            if part.step not in (None, 1) or not 0 <= part.start < part.stop <= size:
                raise DataError(f"{self.path}: {axis} {part.start}:{part.stop} lies outside 0:{size}, or is empty")
        return self._read_inside(box)

    def read_all(self) -> NDArray[Any]:
        """Read the whole volume, [C, Z, Y, X].

        Raises:
            DataError: values that cannot be read, with the chunk in the message.
        """
        z, y, x = self.shape[1:]
        return self.read((slice(0, z), slice(0, y), slice(0, x)))

    def occupied(self, box: Box) -> bool:
        """Whether a box may hold other values than `fill_value`; False only if it is certain without reading values."""
        return True

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain data that identifies the volume without reading it, and stays the same when the volume is moved.

        Which changes are detected depends on the format: time and size of files, or of zarr's metadata only. A copy
        with new times counts as another volume.
        """

    @abstractmethod
    def _read_inside(self, box: Box) -> NDArray[Any]:
        """Read a box that lies inside."""

    def _collect_identity(self) -> dict[str, Any]:
        """The part of `identity` that all formats share."""
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "level": self.level,
            "channels": list(self.channels),
            "spacing": None if self.spacing is None else list(self.spacing),
            "unit": self.unit,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, shape={self.shape}, dtype={self.dtype.name})"


def box_shape(box: Box) -> tuple[int, int, int]:
    """Voxels of a box along Z, Y and X."""
    z, y, x = (part.stop - part.start for part in box)
    return z, y, x


def millimetres(source: VolumeSource) -> Triple | None:
    """Voxel size of a volume along Z, Y and X in millimetres; None if it or its unit is unknown."""
    factor = length_in_mm(source.unit)
    if source.spacing is None or factor is None:
        return None
    z, y, x = (size * factor for size in source.spacing)
    return z, y, x


def volume_geometry(source: VolumeSource) -> Geometry | None:
    """Grid of a volume in millimetres, axes X, Y and Z; None if its voxel size is unknown.

    Only NIfTI, NRRD and MetaImage state the orientation. A unit that is unknown counts as millimetres.
    """
    factor = length_in_mm(source.unit) or 1.0
    if source.spacing is None:
        return None
    affine = np.eye(4)
    if source.affine is not None:
        affine[:3] = source.affine[:3] * factor
    else:
        affine[:3, :3] = np.diag(source.spacing[::-1]) * factor
        affine[:3, 3] = np.array(source.translation or (0, 0, 0))[::-1] * factor
    z, y, x = source.shape[1:]
    return Geometry((x, y, z), affine, oriented=source.affine is not None)


def describe_offset(image: VolumeSource, labels: VolumeSource, *, coarse: bool = False) -> str | None:
    """Describe how labels lie apart from their image; None if they share a grid, as far as both files state it.

    Formats without an orientation are compared with the others by their voxel sizes alone, and files without a position
    likewise.

    Args:
        image: the volume.
        labels: on the same number of voxels.
        coarse: whether both are coarse levels of a pyramid, whose positions differ by up to half a voxel between
            tools.
    """
    first, second = volume_geometry(image), volume_geometry(labels)
    if first is None or second is None or (length_in_mm(image.unit) is None) != (length_in_mm(labels.unit) is None):
        return None
    unplaced = image.affine is None and None in (image.translation, labels.translation)
    if first.oriented != second.oriented or unplaced:
        first, second = (
            Geometry(grid.shape, np.diag([*grid.spacing, 1.0]), oriented=False) for grid in (first, second)
        )
    return first.difference(second, tolerance=max(first.spacing) / 2 if coarse else None)


def check_channels(path: str, stored: int, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Return the channels to read; None reads all.

    Raises:
        ConfigError: a channel that is not a number or not stored, or an empty list.
    """
    if wanted is None:
        return tuple(range(stored))
    if not isinstance(wanted, list | tuple) or not all(isinstance(channel, int) for channel in wanted):
        raise ConfigError(f"{path}: channels={wanted!r}; expected a list of whole numbers from 0, e.g. [0, 2]")
    chosen = tuple(int(channel) for channel in wanted)
    outside = [channel for channel in chosen if not 0 <= channel < stored]
    if outside or not chosen:
        raise ConfigError(f"{path} stores {stored} channels (0 to {stored - 1}); there is no channel {outside or '[]'}")
    return chosen


def native_dtype(dtype: Any, path: str) -> np.dtype[Any]:
    """A numeric type in this machine's byte order.

    Raises:
        DataError: not a type of numbers.
    """
    kind = np.dtype(dtype)
    if kind.kind not in "buif":
        raise DataError(f"{path} holds values of type {kind}; expected bool, integer or float")
    return kind.newbyteorder("=")
