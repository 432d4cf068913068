"""Volumes in TIFF: one file with many pages, or a folder of planes."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.tiff import TIFF_SUFFIXES, load_tiff, open_tiff, read_page, reading_tiff
from seewhy.io.zarr.mapped import file_identity
from seewhy.io.zarr.plane_files import list_planes
from seewhy.io.zarr.source import Box, VolumeSource, check_channels, native_dtype
from seewhy.io.zarr.tiff_series import TiffSeries, read_voxel_size

__all__ = ["TIFF_SUFFIXES", "TiffSource"]


class TiffSource(VolumeSource):
    """A TIFF with several pages (plain, ImageJ or OME-TIFF), or a folder with one TIFF per plane in natural order.

    Whole pages are read. The axes and the spacing are those of the OME, ImageJ or tifffile metadata; without any, pages
    are planes. Palettes and greys with 0 as white (WhiteIsZero) give the stored numbers.

    Args:
        path: file or folder.
        channels: channels to read; None reads all.
        origin: remote address that the file was copied from; None for a local file.

    Raises:
        DataError: damaged, colour, pages of several sizes, several time points, or a folder with missing planes.
    """

    kind = "tiff"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__()
        self.path, self._file, self._copied = path if origin is None else origin, path, origin is not None
        self._files = list_planes(Path(path), TIFF_SUFFIXES) if Path(path).is_dir() else None
        self._lock = threading.Lock()
        self._opened: Any = None
        self._process = -1
        if self._files is None:
            with open_tiff(Path(path)) as tiff:
                self._series = TiffSeries.of(tiff, self.path)
                self.spacing, self.unit = read_voxel_size(tiff, self.path)
            stored, planes = self._series.pages.shape
        else:
            stored, planes = 1, len(self._files)
        first = self._plane(0, 0)
        if first.ndim != 2:
            raise DataError(f"{self.path} has colour pictures of shape {first.shape}; expected one value per voxel")
        self.channels = check_channels(self.path, stored, channels)
        self.shape = (len(self.channels), planes, *first.shape)
        self.dtype, self.chunks = native_dtype(first.dtype, self.path), (1, *first.shape)

    def identity(self) -> dict[str, Any]:
        """Shape, type, size and time of the file, or of all files of a folder; for a copy its SHA-256."""
        if self._files is None:
            return {**self._collect_identity(), **file_identity(self._file, copied=self._copied)}
        facts = [file_identity(file) for file in self._files]
        newest = max(fact["mtime_ns"] for fact in facts)
        return {**self._collect_identity(), "size": sum(fact["size"] for fact in facts), "mtime_ns": newest}

    def _read_inside(self, box: Box) -> NDArray[Any]:
        z, y, x = box
        shape = (len(self.channels), z.stop - z.start, y.stop - y.start, x.stop - x.start)
        values = np.empty(shape, dtype=self.dtype)
        for row, channel in enumerate(self.channels):
            for depth, plane in enumerate(range(z.start, z.stop)):
                page = self._plane(channel, plane)
                for fact, value, expected in (
                    ("shape", page.shape, self.shape[2:]),
                    ("type", page.dtype, self.dtype),
                ):
                    if value != expected:
                        name = self._files[plane] if self._files else f"{self.path}, page {plane}"
                        raise DataError(f"{name} has {fact} {value}; expected {expected} like the first plane")
                values[row, depth] = page[y, x]
        return values

    def _plane(self, channel: int, plane: int) -> NDArray[Any]:
        """Read one page; an open file is not safe for concurrent use."""
        with self._lock:
            if self._files is not None:
                values = _read_single(self._files[plane])
            else:
                path = Path(self._file)
                with reading_tiff(path):
                    if self._opened is None or self._process != os.getpid():
                        self._opened, self._process = load_tiff(path), os.getpid()
                    values = self._series.read_plane(self._opened, path, channel, plane)
        self.counters.add(bytes_read=values.nbytes, reads=1)
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {**{key: value for key, value in self.__dict__.items() if key != "_lock"}, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _read_single(path: Path) -> NDArray[Any]:
    """Read the only page of a file."""
    with open_tiff(path) as tiff:
        if len(tiff.pages) != 1:
            raise DataError(f"{path} has {len(tiff.pages)} pages; expected one plane per file")
        return read_page(tiff.pages[0], path)
