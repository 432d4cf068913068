"""Volumes that lie in memory, or in a file that is mapped into it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import file_sha256
from seewhy.io.npy import read_npy
from seewhy.io.zarr.source import Box, VolumeSource, checked_channels, native

__all__ = ["ArraySource", "MappedSource", "NpySource", "file_identity"]


class ArraySource(VolumeSource):
    """An array in memory.

    Args:
        array: [C, Z, Y, X] of numbers; [Z, Y, X] counts as one channel. It is not copied.
        spacing: of Z, Y and X.
        unit: of the spacing.
        path: how messages call it.
        channels: which channels to give; None gives all.

    Raises:
        DataError: another number of axes, no voxels, or no numbers.
    """

    kind = "array"

    def __init__(
        self,
        array: NDArray[Any],
        *,
        spacing: Sequence[float] | None = None,
        unit: str | None = None,
        path: str = "array",
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        self._array = four_axes(array, path)
        self.channels = checked_channels(path, self._array.shape[0], channels)
        self.shape = (len(self.channels), *self._array.shape[1:])
        self.dtype, self.chunks, self.unit = native(array.dtype, path), (1, 1, 1), unit
        if spacing is not None:
            z, y, x = (float(value) for value in spacing)
            self.spacing = (z, y, x)

    def identity(self) -> dict[str, Any]:
        """Shape, type and a digest of all values."""
        import hashlib

        digest = hashlib.sha256()
        for plane in self._array.reshape(-1, *self._array.shape[2:]):
            digest.update(np.ascontiguousarray(plane).data)
        return {**self._described(), "sha256": digest.hexdigest()}

    def _read(self, box: Box) -> NDArray[Any]:
        return taken(self._array, self, box)


class MappedSource(VolumeSource):
    """A file whose values are mapped, anew in every process.

    Args:
        path: the file.
        origin: the address that the file is a copy of; None where it is no copy.
    """

    _mapped: NDArray[Any] | None = None
    _process: int = -1

    def __init__(self, path: str, *, origin: str | None = None) -> None:
        super().__init__()
        self.path, self._file, self._copied = path if origin is None else origin, path, origin is not None

    def identity(self) -> dict[str, Any]:
        """Shape, type, and size and time of the file; of a copy its SHA-256, as it is of another time every run."""
        return {**self._described(), **file_identity(self._file, copied=self._copied)}

    def _map(self) -> NDArray[Any]:
        """[C, Z, Y, X] as stored."""
        raise NotImplementedError

    def _describe(self, channels: Sequence[int] | None) -> None:
        """Set the attributes that follow from the mapped array."""
        array = self._values()
        self.channels = checked_channels(self.path, array.shape[0], channels)
        self.shape = (len(self.channels), array.shape[1], array.shape[2], array.shape[3])
        self.dtype, self.chunks = native(array.dtype, self.path), (1, 1, 1)

    def _values(self) -> NDArray[Any]:
        if self._mapped is None or self._process != os.getpid():
            self._mapped, self._process = self._map(), os.getpid()
        return self._mapped

    def _read(self, box: Box) -> NDArray[Any]:
        return taken(self._values(), self, box)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None, "_process": -1}


class NpySource(MappedSource):
    """A `.npy` file of [Z, Y, X] or [C, Z, Y, X].

    Args:
        path: the file.
        channels: which channels to give; None gives all.
        origin: the address that the file is a copy of; None where it is no copy.

    Raises:
        DataError: damaged, pickled, or of another number of axes.
    """

    kind = "npy"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__(path, origin=origin)
        self._describe(channels)

    def _map(self) -> NDArray[Any]:
        return four_axes(read_npy(self._file, mmap=True), self.path)


def taken(array: NDArray[Any], source: VolumeSource, box: Box) -> NDArray[Any]:
    """Values of a box of the source's channels as an array of its own, counted."""
    channels: Any = list(source.channels)
    if channels == list(range(array.shape[0])):
        channels = slice(None)
    values = np.array(array[(channels, *box)], dtype=source.dtype, order="C")
    source.counters.add(bytes_read=values.nbytes, reads=1)
    return values


def four_axes(array: NDArray[Any], path: str) -> NDArray[Any]:
    """[C, Z, Y, X] of an array that may lack the channels.

    Raises:
        DataError: another number of axes, or no voxels.
    """
    if array.ndim not in (3, 4):
        raise DataError(f"{path} has shape {array.shape}; expected (Z, Y, X) or (C, Z, Y, X)")
    if array.size == 0:
        raise DataError(f"{path} has shape {array.shape} and so holds no voxels")
    return array[None] if array.ndim == 3 else array


def file_identity(path: str | Path, *, copied: bool = False) -> dict[str, Any]:
    """Size and time of the last change of a local file; size and SHA-256 of one that was copied just now."""
    facts = os.stat(path)
    if copied:
        return {"size": facts.st_size, "sha256": file_sha256(path)}
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
