"""NIfTI files as volumes."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from seewhy.io.nifti import NiftiFile
from seewhy.io.read_errors import reading
from seewhy.io.zarr.arrays import MappedSource, file_identity, four_axes
from seewhy.io.zarr.remote import temporary_folder
from seewhy.io.zarr.source import Box

__all__ = ["NiftiSource"]

UNPACKED: dict[tuple[str, int, int], str] = {}
"""Path, size and time of a `.nii.gz` → its unpacked copy."""


class NiftiSource(MappedSource):
    """A NIfTI file: its array (X, Y, Z[, C]) read as (C, Z, Y, X), which is the order that SimpleITK gives.

    Nothing is turned or resampled: voxel (z, y, x) here is voxel (x, y, z) of the file, `spacing` is the file's
    reversed, and `affine` is the file's own, so that a result can be put back by reversing its axes. Both are in the
    header's unit, which is the millimetre where it says none, as other tools take it. Values are
    float32 where the header scales them. A `.nii.gz` is a stream: it is unpacked once per process to a temporary
    file on disk, however often it is opened, so that memory stays flat.

    Args:
        path: `.nii` or `.nii.gz`.
        channels: which channels to give; None gives all.
        origin: the address that the file is a copy of; None where it is no copy.

    Raises:
        DataError: missing, damaged or no NIfTI.
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
        """As of any mapped file, and the affine."""
        assert self.affine is not None
        return {**super().identity(), "affine": self.affine.tolist()}

    def _map(self) -> NDArray[Any]:
        with reading(Path(self._file), kind="NIfTI", foreign=ImageFileError, damage=(HeaderDataError,)):
            plain = _unpacked(self._file) if self._file.endswith(".gz") else self._file
            proxy: Any = nib.load(plain).dataobj
            slope, intercept = proxy.slope, proxy.inter
            self._slope = 1.0 if slope is None else float(slope)
            self._intercept = 0.0 if intercept is None else float(intercept)
            array: NDArray[Any] = np.memmap(
                plain, dtype=proxy.dtype, mode="r", offset=proxy.offset, shape=proxy.shape, order="F"
            )
        while array.ndim > 4 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim == 5 and array.shape[3] == 1:  # vectors lie along the fifth axis
            array = array[:, :, :, 0]
        return four_axes(array.T, self.path)

    def _read(self, box: Box) -> NDArray[Any]:
        values = super()._read(box)
        if (self._slope, self._intercept) == (1.0, 0.0):
            return values
        return values * np.float32(self._slope) + np.float32(self._intercept)


def _unit(header: Any) -> str:
    """UDUNITS name of the unit of a header; millimetres where it is unknown or no code of NIfTI's."""
    try:
        name, _ = header.get_xyzt_units()
    except KeyError:
        return "millimeter"
    return {"meter": "meter", "micron": "micrometer"}.get(name, "millimeter")


def _unpacked(path: str) -> str:
    """The file without its compression, in a temporary folder; one copy of this state of it per process.

    A process that was forked reads the copy of the one that it comes from, which outlives it.
    """
    facts = file_identity(path)
    key = (os.path.abspath(path), facts["size"], facts["mtime_ns"])
    if key not in UNPACKED or not Path(UNPACKED[key]).exists():
        target = temporary_folder() / Path(path).name.removesuffix(".gz")
        with gzip.open(path, "rb") as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, 1 << 20)
        UNPACKED[key] = str(target)
    return UNPACKED[key]
