"""Open, read and write a scan by its name: NIfTI, NRRD or MetaImage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.nifti import NIFTI_SUFFIXES, NiftiFile, is_nifti, write_nifti
from seewhy.io.nrrd import NRRD_SUFFIXES, read_nrrd_header, reading_nrrd, write_nrrd
from seewhy.io.scans.header import ScanHeader
from seewhy.io.scans.metaimage import METAIMAGE_SUFFIXES, read_metaimage_header, reading_metaimage, write_metaimage

__all__ = [
    "HEADERED_SUFFIXES",
    "SCAN_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "HeaderedFile",
    "Scan",
    "is_scan",
    "open_scan",
    "read_scan",
    "reading_scan",
    "write_scan",
]

HEADERED_SUFFIXES = (*NRRD_SUFFIXES, *METAIMAGE_SUFFIXES)
SCAN_SUFFIXES = (*NIFTI_SUFFIXES, *HEADERED_SUFFIXES)
WRITTEN_SUFFIXES = (*NIFTI_SUFFIXES, ".nrrd", ".mha")
"""Formats of one file; `.nhdr` and `.mhd` have two, of which a failure could leave one."""


class HeaderedFile:
    """A NRRD or MetaImage file: the header is read at once, values are read on request.

    Attributes:
        path: the file.
        shape: (X, Y, Z), or (X, Y, Z, C).
        geometry: grid of the axes in space.
        dtype: type of the stored values.
        stored: where the values lie.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        read = read_nrrd_header if self.path.suffix.lower() in NRRD_SUFFIXES else read_metaimage_header
        self.stored: ScanHeader = read(self.path)
        self.shape, self.geometry = self.stored.shape, self.stored.geometry
        if len(self.shape) == 4 and self.shape[3] == 1:
            self.shape = self.shape[:3]
        self.dtype: np.dtype[Any] = self.stored.dtype
        if self.dtype.kind not in "iuf":
            raise DataError(f"{self.path} holds values of type {self.dtype}; expected one real number per voxel")

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a file with three axes."""
        return self.shape[3] if len(self.shape) == 4 else 1

    def read(self, *, channel: int | None = None) -> NDArray[Any]:
        """Read values.

        Args:
            channel: channel of a file with four axes; None reads all.

        Returns:
            [X, Y, Z], or [X, Y, Z, C] if all channels of a file with four axes are read.

        Raises:
            DataError: a channel that does not exist, or values that cannot be read.
        """
        if channel is not None and not 0 <= channel < self.channels:
            raise DataError(f"{self.path} has {self.channels} channels; there is no channel {channel}")
        with reading_scan(self.path):
            values = self.stored.read_values().reshape(self.shape, order="F")
        return values[..., channel] if channel is not None and values.ndim == 4 else values


Scan: TypeAlias = NiftiFile | HeaderedFile
"""A scan in one file; both classes have `path`, `shape`, `geometry`, `dtype`, `channels` and `read`."""


def reading_scan(path: Path) -> AbstractContextManager[None]:
    """Convert errors while a NRRD or MetaImage is read, see `reading`."""
    return reading_nrrd(path) if path.suffix.lower() in NRRD_SUFFIXES else reading_metaimage(path)


def is_scan(path: str | Path) -> bool:
    """Whether the name of a file is that of a NIfTI, NRRD or MetaImage, also in capitals.

    Example:
        >>> is_scan("scan.MHA"), is_scan("scan.nii.gz"), is_scan("scan.raw")
        (True, True, False)
    """
    return Path(path).name.lower().endswith(SCAN_SUFFIXES)


def open_scan(path: str | Path) -> Scan:
    """Open a scan; its header is read.

    Raises:
        DataError: the file is missing, damaged, or has another format than its name says.

    Example:
        >>> path = write_scan("scan.mha", np.zeros((2, 3, 4), np.int16), affine=np.diag([0.5, 0.5, 2.0, 1.0]))
        >>> open_scan(path).geometry.spacing
        (0.5, 0.5, 2.0)
    """
    path = Path(path)
    if path.name.lower().endswith(HEADERED_SUFFIXES):
        return HeaderedFile(path)
    return NiftiFile(path)


def read_scan(path: str | Path) -> tuple[NDArray[Any], Geometry]:
    """Read a scan and its grid, see `open_scan`."""
    scan = open_scan(path)
    return scan.read(), scan.geometry


def write_scan(
    path: str | Path, array: NDArray[Any], *, affine: NDArray[Any], header: Any | None = None, oriented: bool = True
) -> Path:
    """Write a volume atomically, in the format that the name asks for.

    Args:
        path: ends in one of `WRITTEN_SUFFIXES`.
        array: [X, Y, Z] or [X, Y, Z, C]; bool is stored as uint8.
        affine: [4, 4], voxel indices to RAS+ millimetres.
        header: for NIfTI, source of codes, units and description.
        oriented: whether the orientation is known; NRRD can leave it out.

    Raises:
        DataError: another suffix, or values that the format cannot hold.
    """
    suffix = Path(path).suffix.lower()
    if is_nifti(path):
        return write_nifti(path, array, affine=affine, header=header)
    if suffix == ".nrrd":
        return write_nrrd(path, array, affine=affine, oriented=oriented)
    if suffix == ".mha":
        return write_metaimage(path, array, affine=affine)
    raise DataError(f"{path}: scans are written as {', '.join(WRITTEN_SUFFIXES)}; choose one of these endings")
