"""Slices put back into the volume that they were cut from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.nifti import NIFTI_SUFFIXES, NiftiFile, write_nifti
from seewhy.io.nrrd import nrrd_geometry

__all__ = ["stack_slices", "stack_to_nifti"]


def stack_to_nifti(
    slices: Mapping[int, NDArray[Any]], source: str | Path, path_out: str | Path, *, axis: int = 2
) -> Path:
    """Write slices as a NIfTI volume on the grid of their source, atomically.

    Rows and columns of a slice are the source's remaining two axes in stored order, as `prepare` cuts them; so
    the result lies on the source in any viewer.

    Args:
        slices: index along `axis` → [rows, columns]; where an index is absent the volume is zero.
        source: the NIfTI or NRRD volume the slices were cut from (column `source` of manifest.csv).
        path_out: the `.nii.gz` (or `.nii`) to write.
        axis: the axis that was cut.

    Returns:
        `path_out`. Integer and bool slices are stored as uint8 (uint16 or int32 where the values need it),
        all others as float32.

    Raises:
        DataError: the source is missing or has no grid; no slices; a slice of another shape or outside the volume.
    """
    source = Path(source)
    header = None
    if source.name.endswith(NIFTI_SUFFIXES):
        file = NiftiFile(source)
        geometry, header = file.geometry, file.header
    elif source.suffix in (".nrrd", ".nhdr"):
        geometry = nrrd_geometry(source)
    else:
        raise DataError(
            f"{source} has no grid in the scanner's space; only slices cut from NIfTI or NRRD can be put back"
        )
    volume = stack_slices(slices, geometry, axis=axis, where=str(source))
    return write_nifti(path_out, volume, affine=geometry.affine, header=header)


def stack_slices(
    slices: Mapping[int, NDArray[Any]], geometry: Geometry, *, axis: int = 2, where: str = "volume"
) -> NDArray[Any]:
    """Put slices into a volume of zeros.

    Args:
        slices: index along `axis` → [rows, columns].
        geometry: the grid to fill.
        axis: the axis that was cut.
        where: named in errors.

    Raises:
        DataError: no slices, or slices that do not fit; all of them at once.
    """
    if not slices:
        raise DataError("no slices to put back", where=where)
    if axis not in (0, 1, 2):
        raise DataError(f"axis={axis}; expected 0, 1 or 2", where=where)
    expected = tuple(size for position, size in enumerate(geometry.shape) if position != axis)
    arrays = {int(index): np.asarray(array) for index, array in slices.items()}
    problems = [
        f"slice {index} lies outside the volume's {geometry.shape[axis]} slices"
        for index in arrays
        if not 0 <= index < geometry.shape[axis]
    ]
    problems += [
        f"slice {index} has shape {array.shape}; expected {expected}"
        for index, array in arrays.items()
        if array.shape != expected
    ]
    if problems:
        raise DataError(problems, where=where)
    volume = np.zeros(geometry.shape, dtype=_stored_type(list(arrays.values())))
    planes = np.moveaxis(volume, axis, 0)
    for index, array in arrays.items():
        planes[index] = array
    return volume


def _stored_type(arrays: list[NDArray[Any]]) -> np.dtype[Any]:
    """Smallest of uint8, uint16 and int32 that holds every integer; float32 for anything else."""
    if any(array.dtype.kind not in "bui" for array in arrays):
        return np.dtype(np.float32)
    low = min(int(array.min()) for array in arrays)
    high = max(int(array.max()) for array in arrays)
    for name in ("uint8", "uint16", "int32"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype(np.float32)
