"""Read and write `.npy` arrays, without pickle and atomically."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.recognize import recognize

__all__ = ["npy_shape", "read_npy", "write_npy"]

ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"


def read_npy(path: str | Path, *, mmap: bool = False) -> NDArray[Any]:
    """Read one numeric array.

    Args:
        path: a `.npy` file.
        mmap: memory-map the file read-only instead of reading it, if only a part is needed.

    Returns:
        The array with the shape and type of the file (bool, integer or float).

    Raises:
        DataError: the file is missing, empty, truncated, pickled or not an array of numbers.

    Example:
        >>> _ = write_npy("slice.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
        >>> read_npy("slice.npy").mean()
        np.float32(2.5)
    """
    try:
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, EOFError, ValueError, SyntaxError, zipfile.BadZipFile) as error:
        raise DataError(_diagnose(Path(path), error)) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is a .npz archive; expected a single array; save it with numpy.save")
    if array.dtype.kind not in "buif":
        raise DataError(f"{path} holds values of type {array.dtype}; expected bool, integer or float")
    if array.size == 0:
        raise DataError(f"{path} has no values (shape {array.shape}); write it again or delete it")
    return array


def npy_shape(path: str | Path) -> tuple[int, ...]:
    """Shape of an array without reading its values.

    Raises:
        DataError: see `read_npy`.
    """
    return tuple(read_npy(path, mmap=True).shape)


def write_npy(path: str | Path, array: NDArray[Any]) -> Path:
    """Write one array atomically and without pickle.

    Args:
        path: the file; its name should end in `.npy`.
        array: any array of numbers.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return Path(path)


def _diagnose(path: Path, error: Exception) -> str:
    """Explain why NumPy could not read a file, and what to do."""
    if not path.exists():
        return f"{path} does not exist"
    if path.is_dir():
        return f"{path} is a folder; expected a .npy file"
    if path.stat().st_size == 0:
        return f"{path} is empty (0 bytes); write it again or delete it"
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as unreadable:
        return f"{path} cannot be opened ({unreadable.strerror}); check its permissions"
    if start.startswith(NPY_MAGIC) and not re.search("pickle|object", str(error).lower()):
        return f"{path} is truncated or damaged ({error}); write it again or delete it"
    if start.startswith(NPY_MAGIC) or start[:1] == b"\x80":
        return (
            f"{path} is pickled, and a pickle can run any code when read; "
            "save a plain numeric array: numpy.save(path, array.astype('float32'), allow_pickle=False)"
        )
    if start.startswith(ZIP_MAGIC):
        return f"{path} is a damaged .npz archive; expected a .npy array"
    kind = recognize(path)
    seems = f"it starts with {start!r}" if kind is None else f"it seems to be {kind}"
    return f"{path} is not a .npy file ({seems}); expected a file written by numpy.save"
