"""Slice data sets: names of folders and columns, natural order of files, and stacking slices back into a volume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.geometry import Geometry
from seewhy.io.nifti import NiftiFile, write_nifti
from seewhy.io.scans.scan import is_scan, open_scan
from seewhy_run.names import natural_key

__all__ = ["IMAGES", "MANIFEST_COLUMNS", "MASKS", "find_plane_shape", "natural_key", "stack_slices", "stack_to_nifti"]

IMAGES, MASKS = "imageSlice", "maskSlice"
"""Folders of a slice data set; an image and its mask have the same file name."""

MANIFEST_COLUMNS = (
    "file", "patient", "slice", "label", "area", "modality", "source",
    "spacing_row", "spacing_col", "spacing_slice",
)  # fmt: skip
"""Columns of `manifest.csv`: area in lesion pixels, source volume, index of the slice in it, spacing in mm."""


def find_plane_shape(shape: tuple[int, ...], *, modalities: int = 1) -> tuple[int, int] | None:
    """Find (rows, columns) of an array of one slice, else None: H x W, H x W x 1 or 3, 1 or 3 x H x W.

    Slices of several modalities are modalities x H x W, and nothing else.
    """
    if modalities > 1:
        return (shape[1], shape[2]) if len(shape) == 3 and shape[0] == modalities else None
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3 and shape[2] in (1, 3):
        return shape[0], shape[1]
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[1], shape[2]
    return None


def stack_to_nifti(
    slices: Mapping[int, NDArray[Any]], source: str | Path, path_out: str | Path, *, axis: int = 2
) -> Path:
    """Write slices as a NIfTI volume on the grid of their source, atomically.

    Rows and columns of a slice are the source's other two axes in stored order, as `seewhy prepare` cuts them, so the
    result overlays the source in any viewer.

    Args:
        slices: index along `axis` → [rows, columns]; missing slices are zero.
        source: the NIfTI, NRRD or MetaImage volume the slices were cut from (column `source` of manifest.csv).
        path_out: the `.nii.gz` (or `.nii`) to write.
        axis: axis along which the slices were cut.

    Returns:
        `path_out`. Integer and bool slices are stored as uint8 (uint16 or int32 where the values need it),
        all others as float32.

    Raises:
        DataError: the source is missing or has no grid; no slices; a slice of another shape or outside the volume.
    """
    source = Path(source)
    if not is_scan(source):
        raise DataError(
            f"{source} is not NIfTI, NRRD or MetaImage, so its grid in scanner space is unknown and slices cannot be "
            "stacked back"
        )
    file = open_scan(source)
    geometry, header = file.geometry, file.header if isinstance(file, NiftiFile) else None
    volume = stack_slices(slices, geometry, axis=axis, where=str(source))
    return write_nifti(path_out, volume, affine=geometry.affine, header=header)


def stack_slices(
    slices: Mapping[int, NDArray[Any]], geometry: Geometry, *, axis: int = 2, where: str = "volume"
) -> NDArray[Any]:
    """Stack slices into a volume of zeros.

    Args:
        slices: index along `axis` → [rows, columns].
        geometry: the grid to fill.
        axis: axis along which the slices were cut.
        where: name in error messages.

    Raises:
        DataError: no slices, or slices that do not fit, all listed in one error.

    Example:
        >>> geometry = Geometry(shape=(2, 2, 3), affine=np.eye(4))
        >>> stack_slices({1: np.ones((2, 2), np.uint8)}, geometry)[0]
        array([[0, 1, 0],
               [0, 1, 0]], dtype=uint8)
    """
    if not slices:
        raise DataError("no slices to stack", where=where)
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
    """Smallest of uint8, uint16 and int32 that holds all integers; float32 for other types."""
    if any(array.dtype.kind not in "bui" for array in arrays):
        return np.dtype(np.float32)
    low = min(int(array.min()) for array in arrays)
    high = max(int(array.max()) for array in arrays)
    for name in ("uint8", "uint16", "int32"):
        limits = np.iinfo(name)
        if limits.min <= low and high <= limits.max:
            return np.dtype(name)
    return np.dtype(np.float32)
