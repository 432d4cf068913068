"""Read and write NIfTI volumes; values, affine and header are preserved."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike, NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.read_errors import reading, recognize
from seewhy.io.checks.sizes import check_announced, check_memory, check_regular_file
from seewhy.io.geometry import Geometry, affine_problem

__all__ = [
    "NIFTI_SUFFIXES",
    "NiftiFile",
    "is_nifti",
    "nifti_bytes",
    "read_nifti",
    "write_nifti",
    "write_nifti_like",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")


def is_nifti(path: str | Path) -> bool:
    """Whether the name of a file is that of a NIfTI, also in capitals.

    Example:
        >>> is_nifti("scan.nii.gz"), is_nifti("SCAN.NII"), is_nifti("scan.nii.txt")
        (True, True, False)
    """
    return Path(path).name.lower().endswith(NIFTI_SUFFIXES)


class NiftiFile:
    """A NIfTI file: the header is read at once, values are read on request.

    From an uncompressed file only the requested values are read. A `.nii.gz` is a stream, so everything before them
    is decompressed, but only the requested values are kept in memory.

    Attributes:
        path: the file.
        shape: as stored, three axes, or four with channels (or time, or the parts of vectors) last.
        geometry: grid of the first three axes.
        header: a copy of nibabel's header.
        dtype: type of the stored values, before the header's scaling.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_nifti(self.path):
            raise DataError(f"{self.path} is not a NIfTI name; expected .nii or .nii.gz")
        self._image = _load(self.path)
        shape = tuple(int(size) for size in self._image.shape)
        if len(shape) == 2:  # SimpleITK writes planes without a third axis
            shape = (*shape, 1)
        while len(shape) > 3 and shape[-1] == 1:  # some tools write three axes as (X, Y, Z, 1)
            shape = shape[:-1]
        if len(shape) == 5 and shape[3] == 1:  # vectors are stored along the fifth axis
            shape = (*shape[:3], shape[4])
        if len(shape) not in (3, 4):
            raise DataError(f"{self.path} has shape {shape}; expected three axes, or four with channels last")
        if min(shape) < 1:
            raise DataError(f"{self.path} has shape {shape}; expected one value or more along each axis")
        self.shape = shape
        self.header = self._image.header.copy()
        coded = any(int(self.header[code]) > 0 for code in ("sform_code", "qform_code"))
        affine = _choose_affine(self.path, self._image)
        self.geometry = Geometry(shape=(shape[0], shape[1], shape[2]), affine=affine, oriented=coded)
        self.dtype: np.dtype[Any] = self._image.get_data_dtype()
        if self.dtype.kind not in "biuf":
            held = f"colours ({', '.join(self.dtype.names)})" if self.dtype.names else f"values of type {self.dtype}"
            raise DataError(f"{self.path} holds {held}; expected one real number per voxel")
        stored, packed = check_regular_file(self.path).st_size, self.path.name.lower().endswith(".gz")
        check_announced(self.path, nifti_bytes(self._image), stored=stored, packed=packed)

    @property
    def channels(self) -> int:
        """Number of channels; 1 for a file with three axes."""
        return self.shape[3] if len(self.shape) == 4 else 1

    def read(self, *, channel: int | None = None) -> NDArray[Any]:
        """Read values, with the header's scaling applied if there is one.

        Args:
            channel: channel of a file with four axes; None reads all.

        Returns:
            [X, Y, Z], or [X, Y, Z, C] if all channels of a file with four axes are read.

        Raises:
            DataError: a channel that does not exist, or values that cannot be read.
        """
        if channel is None:
            return self._values(())
        self._check_channel(channel)
        return self._values((slice(None), slice(None), slice(None), channel))

    def read_slice(self, index: int, *, axis: int = 2, channel: int | None = None) -> NDArray[Any]:
        """Read one plane, in the order of the other two axes.

        Args:
            index: position along `axis`, counted from 0.
            axis: 0, 1 or 2.
            channel: needed for a file with four axes.

        Raises:
            DataError: an index or channel outside the file.
        """
        if axis not in (0, 1, 2) or not 0 <= index < self.shape[axis]:
            raise DataError(f"{self.path} has shape {self.shape}; there is no slice {index} along axis {axis}")
        if channel is None and len(self.shape) == 4:
            raise DataError(f"{self.path} has {self.channels} channels; choose one with `channel`")
        self._check_channel(channel or 0)
        key: list[int | slice] = [slice(None)] * 3
        key[axis] = index
        return self._values((*key, channel or 0))

    def _check_channel(self, channel: int) -> None:
        if not 0 <= channel < self.channels:
            raise DataError(f"{self.path} has {self.channels} channels; there is no channel {channel}")

    def _values(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        """Read through the array proxy; axes of size 1 after the third are dropped, a missing third one is added."""
        stored = self._image.shape
        front, channel = (*key, *[slice(None)] * (3 - len(key)))[:3], key[3] if len(key) > 3 else slice(None)
        back = [channel if size > 1 and len(self.shape) == 4 else 0 for size in stored[3:]]
        parts = (*front, *back)
        sizes = (*stored, 1) if len(stored) == 2 else stored
        voxels = math.prod(size for size, part in zip(sizes, parts, strict=True) if isinstance(part, slice))
        check_memory(self.path, voxels * self.dtype.itemsize)
        with reading(self.path, kind="NIfTI", foreign=ImageFileError, damage=(HeaderDataError,)):
            plane = len(stored) == 2
            values = (
                np.asarray(self._image.dataobj)[..., None][front] if plane else np.asarray(self._image.dataobj[parts])
            )
        return values.astype(values.dtype.newbyteorder("="), copy=False)


def nifti_bytes(image: Any) -> int:
    """Bytes that the header of an image of nibabel announces, unpacked: what precedes the values, and the values."""
    proxy = image.dataobj
    return int(proxy.offset) + math.prod(int(size) for size in proxy.shape) * int(proxy.dtype.itemsize)


def read_nifti(path: str | Path, *, channel: int | None = None) -> tuple[NDArray[Any], Geometry]:
    """Read a volume and its grid.

    Args:
        path: a `.nii` or `.nii.gz` file.
        channel: channel of a file with four axes; None reads all.

    Returns:
        Values [X, Y, Z] (or [X, Y, Z, C]) and the grid.

    Raises:
        DataError: the file is missing, damaged or not NIfTI.

    Example:
        >>> values = np.zeros((4, 5, 6), np.int16)
        >>> _ = write_nifti("ct.nii.gz", values, affine=np.diag([0.8, 0.8, 2.0, 1.0]))
        >>> image, geometry = read_nifti("ct.nii.gz")
        >>> image.shape, [round(size, 3) for size in geometry.spacing]
        ((4, 5, 6), [0.8, 0.8, 2.0])
    """
    file = NiftiFile(path)
    return file.read(channel=channel), file.geometry


def write_nifti(
    path: str | Path,
    array: NDArray[Any],
    *,
    affine: NDArray[Any],
    header: Any | None = None,
    dtype: DTypeLike | None = None,
) -> Path:
    """Write a volume atomically.

    Args:
        path: ends in `.nii` or `.nii.gz` (compressed).
        array: [X, Y, Z] or [X, Y, Z, C]; bool is stored as uint8.
        affine: [4, 4], voxel indices to RAS+ millimetres.
        header: source of codes, units and description (e.g. `NiftiFile.header`); its value type and scaling are
            replaced, so that the same values are read back.
        dtype: stored type; None stores the type of the array.

    Raises:
        DataError: another suffix, or a type that NIfTI does not support.
    """
    final = Path(path)
    if not is_nifti(final):
        raise DataError(f"{final} is not a NIfTI name; it must end in .nii or .nii.gz")
    values = np.asarray(array, dtype=dtype)
    values = values.astype(np.uint8) if values.dtype == bool else values
    header = None if header is None else header.copy()
    if header is not None:
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(None, None)
        header["cal_min"] = header["cal_max"] = 0  # the display window belongs to other values
    try:
        image = nib.Nifti1Image(values, affine, header, dtype=values.dtype)
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{final}: values of type {values.dtype} are not supported by NIfTI ({error})") from error
    with atomic_path(final) as temporary:
        nib.save(image, temporary)
    return final


def write_nifti_like(path: str | Path, array: NDArray[Any], *, like: str | Path) -> Path:
    """Write a volume on the grid of another file, atomically.

    Args:
        path: ends in `.nii` or `.nii.gz`.
        array: [X, Y, Z] of the other volume's shape, or [X, Y, Z, C].
        like: NIfTI file from which affine, codes and units are copied.

    Raises:
        DataError: `like` cannot be read, or has another shape.
    """
    source = NiftiFile(like)
    if array.shape[:3] != source.shape[:3] or array.ndim not in (3, 4):
        raise DataError(f"{path}: array of shape {array.shape}; expected the shape {source.shape[:3]} of {like}")
    return write_nifti(path, array, affine=source.geometry.affine, header=source.header)


def _load(path: Path) -> Any:
    """Open a file and read its header."""
    _check_name(path)
    with reading(path, kind="NIfTI", foreign=ImageFileError, damage=(HeaderDataError,)):
        try:
            return nib.load(path)
        except (HeaderDataError, ValueError) as error:
            if not re.search("w2|pixdim|qfac", str(error)):
                raise
            raise DataError(
                f"{path}: its qform is invalid ({error}); set it again, e.g. with set_qform of nibabel"
            ) from error


def _check_name(path: Path) -> None:
    """Refuse a NIfTI whose name states another compression than its content, or that nibabel would not find."""
    if not path.name.endswith((*NIFTI_SUFFIXES, *(suffix.upper() for suffix in NIFTI_SUFFIXES))):
        raise DataError(f"{path} has a suffix in mixed case; rename it to {path.name.lower()}")
    kind, packed = recognize(path), path.name.lower().endswith(".gz")
    if kind == "gzip of NIfTI" and not packed:
        raise DataError(f"{path} is compressed with gzip; rename it to {path.name}.gz")
    if kind == "NIfTI" and packed:
        raise DataError(f"{path} is not compressed; rename it to {path.name[: -len('.gz')]}")


def _choose_affine(path: Path, image: Any) -> NDArray[Any]:
    """The affine of nibabel (sform before qform), or the qform if the sform alone is not a valid grid.

    Raises:
        DataError: neither is a grid in space.
    """
    affine = np.asarray(image.affine, dtype=np.float64)
    problem = affine_problem(affine)
    if problem is None:
        return affine
    form = next((name for name in ("sform", "qform") if int(image.header[f"{name}_code"]) > 0), "pixdim")
    other = None
    if form == "sform" and int(image.header["qform_code"]) > 0:
        with contextlib.suppress(HeaderDataError, ValueError):
            other = np.asarray(image.header.get_qform(), dtype=np.float64)
    if other is None or affine_problem(other):
        raise DataError(f"{path}: its {form} {problem}; set it again, e.g. with set_sform of nibabel")
    warnings.warn(f"{path}: its sform {problem}; its qform is used instead", stacklevel=2)
    return other
