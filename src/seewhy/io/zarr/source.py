"""What every volume can be asked, whatever it is stored in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.ome import length_in_mm
from seewhy.io.zarr.store import Counters

__all__ = ["Box", "VolumeSource", "box_shape", "checked_channels", "millimetres"]

Box: TypeAlias = tuple[slice, slice, slice]
"""Voxels [start, stop) along Z, Y and X; both are given and no step."""
Triple: TypeAlias = tuple[float, float, float]


class VolumeSource(ABC):
    """A volume that is read in boxes, by several threads; it opens its file anew in every process.

    Attributes:
        path: where it lies, as given.
        shape: (C, Z, Y, X).
        dtype: type of the values that `read` gives, in this machine's byte order.
        chunks: (Z, Y, X), the smallest box that a read costs; (1, 1, 1) where any box costs itself.
        spacing: distance of voxel centres along Z, Y and X; None where the file does not say.
        translation: position of the first voxel along Z, Y and X in `unit`; None where the file does not say.
        unit: of the spacing by its UDUNITS name, e.g. `micrometer`; None where the file does not say.
        level: which level of a pyramid was opened, by its name; None where there is no pyramid.
        affine: [4, 4], of indices (X, Y, Z) to RAS+ positions in `unit`, for NIfTI only.
        channels: which of the stored channels are given, in this order.
        fill_value: value of voxels that were never written.
        counters: what was read so far in this process.
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
        """Values of a box inside the volume.

        Args:
            box: at least one voxel along each axis.

        Returns:
            [C, z, y, x] of the type `dtype`, an array of its own.

        Raises:
            DataError: a box that is empty or reaches outside; or values that cannot be read, the chunk named.
        """
        for axis, part, size in zip("ZYX", box, self.shape[1:], strict=True):
            if part.step not in (None, 1) or not 0 <= part.start < part.stop <= size:
                raise DataError(f"{self.path}: {axis} {part.start}:{part.stop} lies outside 0:{size}, or is empty")
        return self._read(box)

    def occupied(self, box: Box) -> bool:
        """False only where it is certain, without reading values, that every voxel is `fill_value`."""
        return True

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain data that stays when a volume is moved, and tells it from others without reading it.

        What of a change each kind sees is in its own words: times and sizes of files, or of zarr's metadata alone.
        A copy with new times counts as another volume.
        """

    @abstractmethod
    def _read(self, box: Box) -> NDArray[Any]:
        """Values of a box that lies inside."""

    def _described(self) -> dict[str, Any]:
        """The part of `identity` that every kind has."""
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
    """Size of a volume's voxels along Z, Y and X in millimetres; None where it or its unit is not known."""
    factor = length_in_mm(source.unit)
    if source.spacing is None or factor is None:
        return None
    z, y, x = (size * factor for size in source.spacing)
    return z, y, x


def checked_channels(path: str, stored: int, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """The channels to give; all where none are asked for.

    Raises:
        ConfigError: a channel that is no number or not stored, or none at all.
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


def native(dtype: Any, path: str) -> np.dtype[Any]:
    """A numeric type in this machine's byte order.

    Raises:
        DataError: no type of numbers.
    """
    found = np.dtype(dtype)
    if found.kind not in "buif":
        raise DataError(f"{path} holds values of type {found}; expected bool, integer or float")
    return found.newbyteorder("=")
