"""NIfTI files as volumes."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from seewhy.io.damage import readable
from seewhy.io.nifti import NiftiFile
from seewhy.io.volume_array import MappedSource, file_identity, four_axes
from seewhy.io.volume_base import Box
from seewhy.io.volume_remote import temporary_folder

__all__ = ["NiftiSource"]


class NiftiSource(MappedSource):
    """A NIfTI file: its array (X, Y, Z[, C]) read as (C, Z, Y, X), which is the order that SimpleITK gives.

    Nothing is turned or resampled: voxel (z, y, x) here is voxel (x, y, z) of the file, `spacing` is the file's
    reversed, and `affine` is the file's own, so that a result can be put back by reversing its axes. Values are
    float32 where the header scales them. A `.nii.gz` is a stream: it is unpacked once per process to a temporary
    file on disk, so that memory stays flat.

    Args:
        path: `.nii` or `.nii.gz`.
        channels: which channels to give; None gives all.

    Raises:
        DataError: missing, damaged or no NIfTI.
    """

    kind = "nifti"
    unit = "millimeter"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.path = path
        file = NiftiFile(path)
        x, y, z = file.geometry.spacing
        self.spacing, self.affine = (z, y, x), file.geometry.affine
        self._slope, self._intercept = 1.0, 0.0
        self._describe(channels)
        if (self._slope, self._intercept) != (1.0, 0.0):
            self.dtype = np.dtype(np.float32)

    def identity(self) -> dict[str, Any]:
        """Shape, type, affine, and size and time of the file."""
        assert self.affine is not None
        return {**self._described(), "affine": self.affine.tolist(), **file_identity(self.path)}

    def _map(self) -> NDArray[Any]:
        with readable(Path(self.path), kind="NIfTI", foreign=ImageFileError, damage=(HeaderDataError,)):
            plain = _unpacked(self.path) if self.path.endswith(".gz") else self.path
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


def _unpacked(path: str) -> str:
    """The file without its compression, in a temporary folder of this process."""
    target = temporary_folder() / Path(path).name.removesuffix(".gz")
    with gzip.open(path, "rb") as packed, target.open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    return str(target)
