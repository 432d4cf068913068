"""Checks of zarr metadata before anything is allocated: files, shape and chunks."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.sizes import check_memory, check_regular_file
from seewhy.io.zarr.source import native_dtype

__all__ = ["check_grid", "check_metadata_files"]

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
LONGEST_AXIS, MOST_VALUES = 1 << 24, 1 << 50
"""Limits of what a header may announce: a plan for more tiles than that would never end."""


def check_metadata_files(folder: Path) -> None:
    """Refuse metadata in pipes and devices, which zarr would wait for.

    Raises:
        DataError: a metadata file of the folder is not a regular file.
    """
    for name in METADATA_FILES:
        if os.path.exists(folder / name):
            check_regular_file(folder / name)


def check_grid(array: Any, path: str) -> None:
    """Check shape and chunks of an array, which are whatever its metadata say.

    Raises:
        DataError: no voxels, more than any volume has, no regular chunks, or chunks that do not fit into memory.
    """
    try:
        shape, chunks, size = tuple(array.shape), tuple(array.chunks), native_dtype(array.dtype, path).itemsize
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} has chunks or values that are not supported ({error})") from error
    if not all(0 < length <= LONGEST_AXIS for length in shape) or math.prod(shape) > MOST_VALUES:
        raise DataError(
            f"{path} has shape {shape}; expected one voxel or more, at most {LONGEST_AXIS} along an axis and "
            f"{MOST_VALUES:.0e} in all"
        )
    if not all(length > 0 for length in chunks):
        raise DataError(f"{path} has chunks of shape {chunks}; expected one voxel or more along each axis")
    check_memory(f"{path}: a chunk of shape {chunks}", math.prod(chunks) * size)
