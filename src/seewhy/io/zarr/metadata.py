"""Metadata of zarr: limits that are checked before anything is allocated, and the stores inside a folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seewhy.errors import DataError
from seewhy.io.checks.sizes import check_memory, check_regular_file
from seewhy.io.zarr.source import native_dtype
from seewhy.io.zarr.store import METADATA

__all__ = ["NODES", "check_grid", "check_metadata_files", "is_zarr", "list_nested"]

NODES = ("zarr.json", ".zarray", ".zgroup")
"""Metadata files, of which every array and group has one."""
LONGEST_AXIS, MOST_VALUES = 1 << 24, 1 << 50
"""Limits of what a header may announce: a plan for more tiles than that would never end."""
DEPTH, VISITED, LISTED = 4, 500, 6
"""Levels and folders that are searched for stores, and stores that are listed."""


def is_zarr(folder: Path) -> bool:
    """Whether a folder is an array or a group of zarr."""
    return any((folder / name).exists() for name in NODES)


def check_metadata_files(folder: Path) -> None:
    """Refuse metadata in pipes and devices, which zarr would wait for.

    Raises:
        DataError: a metadata file of the folder is not a regular file.
    """
    for name in METADATA:
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


def list_nested(folder: Path) -> list[str]:
    """Paths of the first arrays and pyramids below a folder, as they can be given instead of it.

    Example:
        >>> import zarr
        >>> _ = zarr.create_array("study/scan1.zarr", shape=(2, 2, 2), dtype="u1")
        >>> list_nested(Path("study"))
        ['study/scan1.zarr']
    """
    found: list[str] = []
    waiting = [(folder, 0)]
    for _ in range(VISITED):
        if not waiting or len(found) >= LISTED:
            break
        current, depth = waiting.pop(0)
        for child in _folders(current):
            kind = _kind(child)
            if kind in ("array", "pyramid"):
                found.append(str(child))
            elif depth < DEPTH:
                waiting.append((child, depth + 1))
    return found[:LISTED]


def _folders(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    except OSError:
        return


def _kind(folder: Path) -> str | None:
    """`array`, `pyramid` (a group with OME multiscales), or None."""
    if (folder / ".zarray").is_file():
        return "array"
    for name in ("zarr.json", ".zattrs"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("node_type") == "array":
            return "array"
        if "multiscales" in json.dumps(content):
            return "pyramid"
    return None
