"""Finished arrays kept for the next epoch, in memory or on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, nearest
from seewhy.io.atomic import file_sha256
from seewhy.io.npy import read_npy, write_npy

__all__ = ["ArrayCache", "DiskCache", "MemoryCache", "NoCache", "cache_from"]

KINDS = ("memory", "disk")

Array = NDArray[np.float32]


class ArrayCache(Protocol):
    """Gives what was made of a file before, or makes it."""

    def __call__(self, path: Path, make: Callable[[], Array]) -> Array:
        """The array made of a file; the caller must not write into it.

        Args:
            path: the file.
            make: reads the file and makes the array.
        """


class NoCache:
    """Makes every array anew."""

    def __call__(self, path: Path, make: Callable[[], Array]) -> Array:
        """See `ArrayCache`."""
        return make()


class MemoryCache:
    """Keeps every array in the memory of its process; each worker of a loader has its own."""

    def __init__(self) -> None:
        self._arrays: dict[Path, Array] = {}

    def __call__(self, path: Path, make: Callable[[], Array]) -> Array:
        """See `ArrayCache`."""
        if path not in self._arrays:
            self._arrays[path] = make()
            self._arrays[path].setflags(write=False)
        return self._arrays[path]


class DiskCache:
    """Keeps every array as a `.npy` file that is mapped, so that memory stays flat and all workers share it.

    A file is found again by the content of its source and by the settings it was made with; files that changed
    and settings that changed make new ones beside the old, and a half-written file cannot be found.

    Args:
        folder: where they are kept; made when it is not there.
        settings: plain data that says how arrays are made; whatever changes them must be in it.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self._settings = json.dumps(settings, sort_keys=True)
        self._names: dict[tuple[Path, int, int], str] = {}

    def __call__(self, path: Path, make: Callable[[], Array]) -> Array:
        """See `ArrayCache`."""
        kept = self.folder / self._name(path)
        if not kept.is_file():
            write_npy(kept, make())
        return read_npy(kept, mmap=True)

    def _name(self, path: Path) -> str:
        """Name of the kept file; a source is read for it once per process and change."""
        status = path.stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if key not in self._names:
            digest = hashlib.sha256(f"{file_sha256(path)}\n{self._settings}".encode()).hexdigest()
            self._names[key] = f"{digest[:32]}.npy"
        return self._names[key]


def cache_from(kind: str | None, folder: str | None, settings: Mapping[str, Any]) -> ArrayCache:
    """Choose a cache by name.

    Args:
        kind: `memory`, `disk`, or None for none.
        folder: for `disk`.
        settings: see `DiskCache`.

    Raises:
        ConfigError: another name, or a folder that is missing or not needed.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"data.cache={kind!r} is unknown; {nearest(kind, KINDS)}, or null")
    if kind == "disk":
        if folder is None:
            raise ConfigError("data.cache=disk needs data.cache_dir, the folder to keep the arrays in")
        return DiskCache(folder, settings)
    return MemoryCache() if kind == "memory" else NoCache()
