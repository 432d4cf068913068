"""Read scans, pictures and arrays, and write results atomically."""

from __future__ import annotations

import csv
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy_run.errors import RunError
from seewhy_run.names import protect_cell

__all__ = ["Scan", "atomic_path", "is_scan", "open_scan", "read_npy", "read_picture", "write_nifti", "write_table"]

SCAN_SUFFIXES = (".nii.gz", ".nii")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def is_scan(path: Path) -> bool:
    """Whether a file's name is that of a NIfTI volume."""
    return path.name.lower().endswith(SCAN_SUFFIXES)


@dataclass(frozen=True)
class Scan:
    """A NIfTI volume.

    Attributes:
        path: the file.
        values: [X, Y, Z], or [X, Y, Z, C], as stored, with the header's scaling.
        affine: [4, 4], voxel indices to RAS+ millimetres.
        header: nibabel's.
        oriented: whether the header states the orientation.
    """

    path: Path
    values: NDArray[Any]
    affine: NDArray[np.float64]
    header: Any
    oriented: bool

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along the first three axes."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def codes(self) -> str | None:
        """Directions of the three axes, e.g. `LAS`; None if the header does not state them."""
        import nibabel

        return "".join(nibabel.orientations.aff2axcodes(self.affine)) if self.oriented else None


def open_scan(path: Path) -> Scan:
    """Read a NIfTI volume.

    Raises:
        RunError: no NIfTI, damaged, or larger than the memory.
    """
    import nibabel

    _check_file(path)
    if not is_scan(path):
        raise RunError(f"{path} is no NIfTI volume; expected {' or '.join(SCAN_SUFFIXES)}")
    try:
        image: Any = nibabel.load(path)
        affine = np.asarray(image.affine, np.float64)
        shape = tuple(image.shape)
        _check_memory(path, math.prod(shape) * 4)
        values = np.asarray(image.dataobj)
    except RunError:
        raise
    except Exception as error:  # nibabel, gzip and zlib have errors of their own
        raise RunError(f"{path} cannot be read as NIfTI ({' '.join(str(error).split())[:200]})") from error
    if values.dtype.kind not in "biuf" or min(shape, default=0) < 1:
        raise RunError(f"{path} holds {values.dtype} values of shape {shape}; expected one real number per voxel")
    values = values[..., None] if values.ndim == 2 else values
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 5 and values.shape[3] == 1:
        values = values[:, :, :, 0]
    if values.ndim not in (3, 4):
        raise RunError(f"{path} has shape {shape}; expected three axes, or four with channels last")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise RunError(f"{path}: its affine is not a grid in space; set it again, e.g. with set_sform of nibabel")
    oriented = any(int(image.header[code]) > 0 for code in ("sform_code", "qform_code"))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return Scan(path, values, affine, image.header.copy(), oriented)


def read_npy(path: Path) -> NDArray[Any]:
    """Read an array of numbers; pickled objects are refused.

    Raises:
        RunError: the file is missing, damaged, or holds no numbers.
    """
    _check_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path} cannot be read as NPY ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or not array.size:
        raise RunError(f"{path} is not an array of numbers")
    return array


def read_picture(path: Path) -> NDArray[Any]:
    """Read a PNG or JPEG with its stored values: [H, W], or [H, W, 3] for colour; Exif orientation is applied.

    Raises:
        RunError: pillow is not installed, the file cannot be read, has several pages or partly transparent pixels, or
            colours of 16 bits, which Pillow would reduce to 8.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise RunError(f"{path} needs pillow: pip install pillow") from error
    _check_file(path)
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise RunError(f"{path} has several pages; expected one")
            picture: Any = ImageOps.exif_transpose(opened)
            if picture.mode in ("P", "PA"):
                picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
            elif picture.mode == "1":
                picture = picture.convert("L")
            if picture.mode not in ("L", "LA", "RGB", "RGBA", "I", "I;16") or _is_reduced(path, opened):
                raise RunError(
                    f"{path} has {opened.mode} colours of more than 8 bits or of another space; expected grey of 8 or "
                    "16 bits, or RGB of 8 bits; convert it"
                )
            values = np.array(picture)
    except RunError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise RunError(f"{path} cannot be read as a picture ({' '.join(str(error).split())[:200]})") from error
    if values.ndim == 3 and values.shape[2] in (2, 4):
        if (values[..., -1] != values[0, 0, -1]).any():
            raise RunError(f"{path} is transparent in places; save it without transparency")
        values = values[..., 0] if values.shape[2] == 2 else values[..., :3]
    return values


def _is_reduced(path: Path, picture: Any) -> bool:
    """Whether Pillow reduces 16 bits of a PNG's colours or transparent greys to 8."""
    if picture.format != "PNG" or picture.mode in ("1", "L", "I", "I;16"):
        return False
    with path.open("rb") as file:
        return file.read(25)[24] > 8


def _check_file(path: Path) -> None:
    """Refuse what is not a regular file: a pipe would wait for ever."""
    if not path.is_file():
        raise RunError(f"{path} {'is not a file' if path.exists() else 'does not exist'}")


def _check_memory(path: Path, needed: int) -> None:
    """Refuse a header that announces more than the machine's memory."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return
    if needed > present:
        raise RunError(f"{path} announces {needed / 1e9:.3g} GB, more than the memory of this machine")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces it when the block ends without an exception."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def write_nifti(path: Path, array: NDArray[Any], like: Scan) -> Path:
    """Write a volume [X, Y, Z] or [X, Y, Z, K] on the grid of a scan, atomically."""
    import nibabel

    header = like.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(None, None)
    header["cal_min"] = header["cal_max"] = 0  # the display window belongs to other values
    with atomic_path(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(array, like.affine, header, dtype=array.dtype), temporary)
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a CSV with the columns of all rows, atomically; text that a spreadsheet would run is marked."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([protect_cell(name) for name in columns])
        writer.writerows([[protect_cell(row.get(name)) for name in columns] for row in rows])
    return path
