"""Messages about unreadable files: their format by their content, and errors of libraries as a `DataError`."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seewhy.errors import DataError, SeewhyError
from seewhy.io.checks.sizes import check_regular_file

__all__ = ["describe", "reading", "recognize", "suggest_conversion"]

BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"NRRD000", "NRRD"),
    (b"\x93NUMPY", "NPY"),
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"CDF\x01", "MINC or NetCDF"),
    (b"CDF\x02", "MINC or NetCDF"),
    (b"MATLAB 5.0", "MATLAB"),
    (b"%PDF", "PDF"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x02", "a Python pickle"),
    (b"ObjectType", "MetaImage"),
    (b"NDims", "MetaImage"),
    (b"mrtrix image", "MRtrix"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
HEAD = 4096
REMEDIES = {
    "DICOM": "convert the series to NIfTI, e.g. with dcm2niix",
    "MGH": "convert it to NIfTI with mri_convert or nibabel",
    "HDF5": "save its array as zarr or .npy",
    "NumPy archive (.npz)": "save its array with numpy.save",
    "MATLAB": "save its array as .npy or NIfTI",
    "a zip archive": "unpack it",
    "a tar archive": "unpack it",
}


@contextmanager
def reading(
    path: Path, *, kind: str, foreign: type[Exception], damage: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Convert errors while a file is read.

    Args:
        path: the file.
        kind: expected format, e.g. `NIfTI`.
        foreign: error of the library for a file of another format.
        damage: errors of the library for a damaged file, in addition to those of the system, of zlib and of values.

    Raises:
        DataError: the file, or a file that it refers to, is missing, is not a regular file, has another format, is
            damaged, or does not fit into memory.
    """
    check_regular_file(path)
    damaged: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, zlib.error, *damage)
    try:
        yield
    except SeewhyError:
        raise
    except FileNotFoundError as error:
        other = error.filename is not None and Path(error.filename) != path
        raise DataError(f"{path}: {error.filename} does not exist" if other else f"{path} does not exist") from error
    except foreign as error:
        seems = recognize(path)
        reason = f"it seems to be {seems}" if seems and seems not in kind else str(error)
        raise DataError(f"{path} is not a readable {kind} file ({reason}); convert it or copy it again") from error
    except damaged as error:
        raise DataError(f"{path} is truncated or damaged ({error}); copy or download it again") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory ({error})") from error


# -- formats --------------------------------------------------------------------------------------------------


def recognize(path: Path) -> str | None:
    """Name the format of a file, or of most files of a folder; None if it is unknown.

    Example:
        >>> Path("a.nii").write_bytes(b"NRRD0004 and more")
        17
        >>> recognize(Path("a.nii"))
        'NRRD'
    """
    try:
        if path.is_dir():
            return _recognize_folder(path)
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(HEAD)
        if not head:
            return "empty"
        if head[:2] != b"\x1f\x8b":
            return _recognize_bytes(head, path)
        with gzip.open(path, "rb") as packed:
            inner = packed.read(HEAD)
    except (OSError, EOFError, zlib.error):
        return "damaged gzip" if path.is_file() else None
    kind = _recognize_bytes(inner, path)
    return "gzip" if kind is None else kind if kind == "MGH" else f"gzip of {kind}"


def describe(path: Path) -> str:
    """Note on the format of a file for the middle of a message; empty if it is unknown."""
    kind = recognize(path)
    return "" if kind is None else f" (it seems to be {kind})"


def suggest_conversion(kind: str | None) -> str:
    """Remedy for a file of this format.

    Example:
        >>> suggest_conversion("DICOM")
        'convert the series to NIfTI, e.g. with dcm2niix'
    """
    known = next((text for name, text in REMEDIES.items() if kind is not None and name in kind), None)
    return known or "convert it to NIfTI, e.g. with SimpleITK"


def _recognize_bytes(head: bytes, path: Path) -> str | None:
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if head[:4] == b"PK\x03\x04":
        return "NumPy archive (.npz)" if b".npy" in head[:256] else "a zip archive"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:4] == b"\0\0\0\x01" and path.name.lower().endswith((".mgz", ".mgh")):
        return "MGH"
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return "Analyze 7.5"
    return next((name for start, name in BEGINNINGS if head.startswith(start)), None)


def _recognize_folder(folder: Path) -> str | None:
    """Format of most of the first files of a folder."""
    files = [path for path in sorted(folder.iterdir())[:50] if path.is_file() and not path.name.startswith(".")]
    kinds = Counter(recognize(path) for path in files)
    known = [kind for kind, _ in kinds.most_common() if kind is not None]
    return f"a folder of {known[0]} files" if known else None
