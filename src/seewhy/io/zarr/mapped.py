"""Volumes in memory and in memory-mapped files: arrays, NPY, NIfTI, NRRD and MetaImage."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import file_sha256, temporary_folder
from seewhy.io.checks.read_errors import reading
from seewhy.io.checks.sizes import format_bytes
from seewhy.io.nifti import NiftiFile, nifti_bytes
from seewhy.io.npy import read_npy
from seewhy.io.scans.scan import HeaderedFile, reading_scan
from seewhy.io.zarr.source import Box, VolumeSource, check_channels, native_dtype

__all__ = ["ArraySource", "MappedSource", "NiftiSource", "NpySource", "file_identity"]


class ArraySource(VolumeSource):
    """An array in memory.

    Args:
        array: [C, Z, Y, X] of numbers; [Z, Y, X] counts as one channel. It is not copied.
        spacing: along Z, Y and X.
        unit: of the spacing.
        path: name in messages.
        channels: channels to read; None reads all.

    Raises:
        DataError: another number of axes, no voxels, or not numbers.
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
        self._array = with_channels(array, path)
        self.channels = check_channels(path, self._array.shape[0], channels)
        self.shape = (len(self.channels), *self._array.shape[1:])
        self.dtype, self.chunks, self.unit = native_dtype(array.dtype, path), (1, 1, 1), unit
        if spacing is not None:
            z, y, x = (float(value) for value in spacing)
            self.spacing = (z, y, x)

    def identity(self) -> dict[str, Any]:
        """Shape, type and SHA-256 of all values."""
        import hashlib

        digest = hashlib.sha256()
        for plane in self._array.reshape(-1, *self._array.shape[2:]):
            digest.update(np.ascontiguousarray(plane).data)
        return {**self._collect_identity(), "sha256": digest.hexdigest()}

    def _read_inside(self, box: Box) -> NDArray[Any]:
        return read_channels(self._array, self, box)


class MappedSource(VolumeSource):
    """A memory-mapped file, mapped again in every process.

    Args:
        path: the file.
        origin: remote address that the file was copied from; None for a local file.
    """

    _mapped: NDArray[Any] | None = None
    _process: int = -1

    def __init__(self, path: str, *, origin: str | None = None) -> None:
        super().__init__()
        self.path, self._file, self._copied = path if origin is None else origin, path, origin is not None

    def identity(self) -> dict[str, Any]:
        """Shape, type, size and time of the file; for a copy its SHA-256, because its time changes with every run."""
        return {**self._collect_identity(), **file_identity(self._file, copied=self._copied)}

    def _map(self) -> NDArray[Any]:
        """[C, Z, Y, X] as stored."""
        raise NotImplementedError

    def _describe(self, channels: Sequence[int] | None) -> None:
        """Set the attributes that depend on the mapped array."""
        array = self._values()
        self.channels = check_channels(self.path, array.shape[0], channels)
        self.shape = (len(self.channels), array.shape[1], array.shape[2], array.shape[3])
        self.dtype, self.chunks = native_dtype(array.dtype, self.path), (1, 1, 1)

    def _values(self) -> NDArray[Any]:
        if self._mapped is None or self._process != os.getpid():
            self._mapped, self._process = self._map(), os.getpid()
        return self._mapped

    def _read_inside(self, box: Box) -> NDArray[Any]:
        return read_channels(self._values(), self, box)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None, "_process": -1}


class NpySource(MappedSource):
    """A `.npy` file of [Z, Y, X] or [C, Z, Y, X].

    Args:
        path: the file.
        channels: channels to read; None reads all.
        origin: remote address that the file was copied from; None for a local file.

    Raises:
        DataError: damaged, pickled, or of another number of axes.
    """

    kind = "npy"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__(path, origin=origin)
        self._describe(channels)

    def _map(self) -> NDArray[Any]:
        return with_channels(read_npy(self._file, mmap=True), self.path)


def read_channels(array: NDArray[Any], source: VolumeSource, box: Box) -> NDArray[Any]:
    """Copy a box of the source's channels to a new array, and count the bytes."""
    channels: Any = list(source.channels)
    if channels == list(range(array.shape[0])):
        channels = slice(None)
    values = np.array(array[(channels, *box)], dtype=source.dtype, order="C")
    source.counters.add(bytes_read=values.nbytes, reads=1)
    return values


def with_channels(array: NDArray[Any], path: str) -> NDArray[Any]:
    """Add a channel axis to an array [Z, Y, X].

    Raises:
        DataError: another number of axes, or no voxels.
    """
    if array.ndim not in (3, 4):
        raise DataError(f"{path} has shape {array.shape}; expected (Z, Y, X) or (C, Z, Y, X)")
    if array.size == 0:
        raise DataError(f"{path} has shape {array.shape}; expected at least one voxel")
    return array[None] if array.ndim == 3 else array


def file_identity(path: str | Path, *, copied: bool = False) -> dict[str, Any]:
    """Size and modification time of a local file; size and SHA-256 of a file that was just copied."""
    facts = os.stat(path)
    if copied:
        return {"size": facts.st_size, "sha256": file_sha256(path)}
    return {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns}


PADDING = 1 << 16
"""Bytes that may follow the values of a `.nii.gz`; some writers fill up blocks."""
UNPACKED: dict[tuple[str, int, int], str] = {}
"""Path, size and time of a compressed file → its unpacked copy."""


class NiftiSource(MappedSource):
    """A NIfTI file: its array (X, Y, Z[, C]) is read as (C, Z, Y, X), the order of SimpleITK.

    Nothing is reoriented or resampled: voxel (z, y, x) here is voxel (x, y, z) of the file, `spacing` is reversed
    accordingly, and `affine` is that of the file, so a result can be put back by reversing its axes. Both are in the
    header's unit; millimetres are assumed if it states none, as other tools do. Values are float32 if the header
    scales them. A `.nii.gz` is a stream: it is decompressed once per process to a temporary file on disk, however
    often it is opened, so memory does not grow with the volume.

    Args:
        path: `.nii` or `.nii.gz`.
        channels: channels to read; None reads all.
        origin: remote address that the file was copied from; None for a local file.

    Raises:
        DataError: missing, damaged or not NIfTI.
    """

    kind = "nifti"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__(path, origin=origin)
        file = NiftiFile(path)
        x, y, z = file.geometry.spacing
        self.spacing, self.affine, self.unit = (z, y, x), file.geometry.affine, _unit(file.header)
        self._slope, self._intercept = 1.0, 0.0
        self._describe(channels)
        if (self._slope, self._intercept) != (1.0, 0.0):
            self.dtype = np.dtype(np.float32)

    def identity(self) -> dict[str, Any]:
        """Identity of a mapped file, and the affine."""
        assert self.affine is not None
        return {**super().identity(), "affine": self.affine.tolist()}

    def _map(self) -> NDArray[Any]:
        with reading(Path(self._file), kind="NIfTI", foreign=ImageFileError, damage=(HeaderDataError,)):
            unpacked = _decompress(self._file) if self._file.lower().endswith(".gz") else self._file
            proxy: Any = nib.load(unpacked).dataobj
            slope, intercept = proxy.slope, proxy.inter
            self._slope = 1.0 if slope is None else float(slope)
            self._intercept = 0.0 if intercept is None else float(intercept)
            array: NDArray[Any] = np.memmap(
                unpacked, dtype=proxy.dtype, mode="r", offset=proxy.offset, shape=proxy.shape, order="F"
            )
        while array.ndim > 4 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim == 5 and array.shape[3] == 1:  # vectors are stored along the fifth axis
            array = array[:, :, :, 0]
        return with_channels(array.T, self.path)

    def _read_inside(self, box: Box) -> NDArray[Any]:
        values = super()._read_inside(box)
        if (self._slope, self._intercept) == (1.0, 0.0):
            return values
        # int32 and float64 are scaled in float64.
        return (values * np.float32(self._slope) + np.float32(self._intercept)).astype(np.float32, copy=False)


class ScanSource(MappedSource):
    """A NRRD or MetaImage file: its array (X, Y, Z[, C]) is read as (C, Z, Y, X), the order of SimpleITK.

    As for `NiftiSource`, nothing is reoriented or resampled, and compressed values are unpacked once per process to a
    temporary file on disk. Positions are millimetres.

    Args:
        path: `.nrrd`, `.nhdr`, `.mha` or `.mhd`.
        channels: channels to read; None reads all.
        origin: remote address that the file was copied from; None for a local file.

    Raises:
        DataError: missing, damaged, or of another format.
    """

    kind = "scan"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__(path, origin=origin)
        self._header = HeaderedFile(path).stored
        geometry = self._header.geometry
        if self._header.has_spacing:
            x, y, z = geometry.spacing
            self.spacing, self.unit = (z, y, x), "millimeter"
        self.affine = geometry.affine if geometry.oriented else None
        self._describe(channels)

    def identity(self) -> dict[str, Any]:
        """Identity of a mapped file and of its file of values, and the affine."""
        facts = {**super().identity(), "affine": None if self.affine is None else self.affine.tolist()}
        if self._header.data != self._header.path:
            facts["values"] = file_identity(self._header.data)
        return facts

    def _map(self) -> NDArray[Any]:
        header = self._header
        with reading_scan(Path(self._file)):
            if header.packing == "text":
                return with_channels(header.read_values().T, self.path)
            unpacked, offset = str(header.data), header.offset + header.skip
            if header.packing != "raw":
                unpacked, offset = _unpack(unpacked, header.nbytes, header.unpack), 0
            array: NDArray[Any] = np.memmap(
                unpacked, dtype=header.dtype, mode="r", offset=offset, shape=header.stored_shape, order="F"
            )
        return with_channels(header.move_channels(array).T, self.path)


def _unit(header: Any) -> str:
    """UDUNITS name of the header's unit; millimeter if the unit is unknown or the code is invalid."""
    try:
        name, _ = header.get_xyzt_units()
    except KeyError:
        return "millimeter"
    return {"meter": "meter", "micron": "micrometer"}.get(name, "millimeter")


def _decompress(path: str) -> str:
    """Decompress a NIfTI to a temporary folder.

    A forked process reads the copy of its parent, which lives longer.
    """
    announced = nifti_bytes(nib.load(path))

    def unpack() -> Iterator[bytes]:
        with gzip.open(path, "rb") as packed:
            left = announced
            while piece := packed.read(min(1 << 20, left)):
                left -= len(piece)
                yield piece
            if len(packed.read(PADDING + 1)) > PADDING:
                raise DataError(f"{path} unpacks to more than the {format_bytes(announced)} that its header announces")

    return _unpack(path, announced, unpack)


def _unpack(path: str, announced: int, unpack: Callable[[], Iterator[bytes]]) -> str:
    """Write unpacked values to a temporary file, once per process and version of the file."""
    facts = file_identity(path)
    key = (os.path.abspath(path), facts["size"], facts["mtime_ns"])
    if key not in UNPACKED or not Path(UNPACKED[key]).exists():
        target = temporary_folder() / Path(path).stem
        free = shutil.disk_usage(target.parent).free
        if announced > free:
            raise DataError(
                f"{path} unpacks to {format_bytes(announced)}; {target.parent} has {format_bytes(free)} free; "
                "set TMPDIR to a larger disk"
            )
        with target.open("wb") as plain:
            for piece in unpack():
                plain.write(piece)
        UNPACKED[key] = str(target)
    return UNPACKED[key]
