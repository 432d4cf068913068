"""Read and write `.npy` and `.npz` arrays, without pickle and atomically."""

from __future__ import annotations

import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.atomic import atomic_path
from seewhy.io.checks.read_errors import recognize
from seewhy.io.checks.sizes import check_announced, check_memory, check_regular_file

__all__ = ["npy_shape", "read_npy", "read_npz", "write_npy", "write_npz"]

ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"
DAMAGE = (
    *(OSError, EOFError, ValueError, SyntaxError, TypeError, KeyError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, RecursionError, tokenize.TokenError),
)
"""Errors of numpy and zipfile for damaged files."""


def read_npy(path: str | Path, *, mmap: bool = False) -> NDArray[Any]:
    """Read one numeric array.

    Args:
        path: a `.npy` file.
        mmap: memory-map the file read-only instead of reading it, if only a part is needed.

    Returns:
        The array with the shape and type of the file (bool, integer or float).

    Raises:
        DataError: the file is missing, empty, truncated, pickled, not an array of numbers, or does not fit into memory.

    Example:
        >>> _ = write_npy("slice.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
        >>> read_npy("slice.npy").mean()
        np.float32(2.5)
    """
    facts = check_regular_file(path)
    try:
        with Path(path).open("rb") as file:
            if zipfile.is_zipfile(file):
                raise DataError(f"{path} is a .npz archive; expected a single array; save it with numpy.save")
            file.seek(0)
            size = _announced_bytes(file)
            check_announced(path, file.tell() + size, stored=facts.st_size)
        if not mmap:
            check_memory(path, size)
        array = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except DAMAGE as error:
        raise DataError(_diagnose(Path(path), error)) from error
    if array.dtype.kind not in "buif":
        raise DataError(f"{path} holds values of type {array.dtype}; expected bool, integer or float")
    if array.size == 0:
        raise DataError(f"{path} has no values (shape {array.shape}); write it again or delete it")
    return array


def read_npz(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of a `.npz` archive.

    Args:
        path: the archive.

    Returns:
        Name → array, in the archive's order.

    Raises:
        DataError: the file is missing, not an archive, damaged, has pickled arrays, or does not fit into memory.

    Example:
        >>> np.savez("arrays.npz", a=np.arange(3))
        >>> read_npz("arrays.npz")
        {'a': array([0, 1, 2])}
    """
    facts = check_regular_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            total = sum(entry.file_size for entry in members)
            check_announced(path, total, stored=facts.st_size, packed=True)
            check_memory(path, total)
            for entry in members:
                with archive.open(entry) as file:
                    size = _announced_bytes(file)
                    check_announced(f"{path}, {entry.filename}", file.tell() + size, stored=entry.file_size)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a .npz archive ({error}); write it again or delete it") from error


def _announced_bytes(file: IO[bytes]) -> int:
    """Bytes of the values that the header of an array announces; the file is left where they begin.

    Raises:
        ValueError: not a header, or one of Python objects, a structure or a negative size.
    """
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"format version {version}, which only arrays of structures need")
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Python objects, stored as a pickle")
    if any(size < 0 for size in shape):
        raise ValueError(f"its header has the shape {shape}")
    return math.prod(shape) * dtype.itemsize


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


def write_npz(path: str | Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write named arrays into one compressed archive, atomically.

    Args:
        path: the file; its name should end in `.npz`.
        arrays: name → array of numbers or text.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
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
