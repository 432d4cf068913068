"""Volumes in TIFF: one file with many pages, or a folder of planes."""

from __future__ import annotations

import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seewhy.errors import DataError
from seewhy.io.image import ImagePages, read_image
from seewhy.io.slices import natural_key
from seewhy.io.zarr.mapped import file_identity
from seewhy.io.zarr.ome import unit_name
from seewhy.io.zarr.source import Box, VolumeSource, check_channels, native_dtype

__all__ = ["TIFF_SUFFIXES", "TiffSource"]

TIFF_SUFFIXES = (".tif", ".tiff")
DESCRIPTION, X_RESOLUTION, Y_RESOLUTION = 270, 282, 283


@dataclass(frozen=True)
class Pages:
    """Arrangement of a file's pages in a volume.

    Attributes:
        channels: pages per plane.
        planes: along Z.
        channel_first: whether the next page is the next channel of the same plane, otherwise the next plane.
        spacing: along Z, Y and X.
        unit: of the spacing.
    """

    channels: int
    planes: int
    channel_first: bool = True
    spacing: tuple[float, float, float] | None = None
    unit: str | None = None

    def page(self, channel: int, plane: int) -> int:
        """Page number of one plane of one channel."""
        return plane * self.channels + channel if self.channel_first else channel * self.planes + plane


class TiffSource(VolumeSource):
    """A TIFF with several pages (plain, ImageJ or OME-TIFF), or a folder with one TIFF per plane in natural order.

    Whole pages are read. The file stays open, because pages are found by walking through all of them. The spacing is
    read from ImageJ's and OME's descriptions.

    Args:
        path: file or folder.
        channels: channels to read; None reads all.
        origin: remote address that the file was copied from; None for a local file.

    Raises:
        DataError: damaged, colour, pages of several sizes, or several time points.
    """

    kind = "tiff"

    def __init__(self, path: str, *, channels: Sequence[int] | None = None, origin: str | None = None) -> None:
        super().__init__()
        self.path, self._file, self._copied = path if origin is None else origin, path, origin is not None
        self._lock = threading.Lock()
        self._files = _planes(Path(path)) if Path(path).is_dir() else None
        self._stack = ImagePages(path)
        self._pages = Pages(1, len(self._files)) if self._files else _described_pages(Path(path))
        first = self._plane(0, 0)
        if first.ndim != 2:
            raise DataError(f"{path} has colour pictures of shape {first.shape}; expected one value per voxel")
        self.channels = check_channels(path, self._pages.channels, channels)
        self.shape = (len(self.channels), self._pages.planes, *first.shape)
        self.dtype, self.chunks = native_dtype(first.dtype, path), (1, *first.shape)
        self.spacing, self.unit = self._pages.spacing, self._pages.unit

    def identity(self) -> dict[str, Any]:
        """Shape, type, size and time of the file, or of all files of a folder; for a copy its SHA-256."""
        if self._files is None:
            return {**self._collect_identity(), **file_identity(self._file, copied=self._copied)}
        facts = [file_identity(file) for file in self._files]
        newest = max(fact["mtime_ns"] for fact in facts)
        return {**self._collect_identity(), "size": sum(fact["size"] for fact in facts), "mtime_ns": newest}

    def _read(self, box: Box) -> NDArray[Any]:
        z, y, x = box
        shape = (len(self.channels), z.stop - z.start, y.stop - y.start, x.stop - x.start)
        values = np.empty(shape, dtype=self.dtype)
        for row, channel in enumerate(self.channels):
            for depth, plane in enumerate(range(z.start, z.stop)):
                page = self._plane(channel, plane)
                if page.shape != self.shape[2:]:
                    name = self._files[plane] if self._files else f"{self.path}, page {plane}"
                    raise DataError(f"{name} has shape {page.shape}; expected {self.shape[2:]} like the first plane")
                values[row, depth] = page[y, x]
        return values

    def _plane(self, channel: int, plane: int) -> NDArray[Any]:
        """Read one page; Pillow's readers are not safe for concurrent use."""
        with self._lock:
            if self._files is not None:
                values = read_image(self._files[plane])
            else:
                values = self._stack.read(self._pages.page(channel, plane))
        self.counters.add(bytes_read=values.nbytes, reads=1)
        return values

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _planes(folder: Path) -> list[Path]:
    """TIFF files of a folder in natural order: slice2 before slice10."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in TIFF_SUFFIXES]
    return sorted(files, key=lambda file: natural_key(file.name.lower()))


def _described_pages(path: Path) -> Pages:
    """Arrangement of the pages of a file, from its description."""
    try:
        with Image.open(path) as picture:
            count = getattr(picture, "n_frames", 1)
            tags: Any = getattr(picture, "tag_v2", {})
            text = str(tags.get(DESCRIPTION, ""))
            resolution = [float(tags.get(tag) or 0) for tag in (Y_RESOLUTION, X_RESOLUTION)]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(f"{path} is not a readable TIFF ({error}); copy or download it again") from error
    if text.startswith("ImageJ="):
        return _imagej(path, text, count, resolution)
    if "<OME" in text:
        return _ome_tiff(path, text, count)
    return Pages(1, count)


def _imagej(path: Path, text: str, count: int, resolution: list[float]) -> Pages:
    facts = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    channels, images = int(facts.get("channels", 1)), int(facts.get("images", count))
    if int(facts.get("frames", 1)) > 1:
        raise DataError(f"{path} has {facts['frames']} time points; expected one; extract it first")
    if images != count:  # above 4 GiB ImageJ writes one page and expects the reader to compute the others
        raise DataError(f"{path} is an ImageJ file of {images} images with {count} pages; save it as BigTIFF or zarr")
    spacing = None
    if "spacing" in facts and all(resolution):
        spacing = (float(facts["spacing"]), 1 / resolution[0], 1 / resolution[1])
    # ImageJ writes other characters than ASCII as Java does: \u00B5m.
    named = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), facts.get("unit", ""))
    unit = unit_name(named) if spacing else None
    return Pages(channels, count // channels, True, spacing, unit)


def _ome_tiff(path: Path, text: str, count: int) -> Pages:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: its OME description is damaged ({error})") from error
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    facts = {} if pixels is None else dict(pixels.attrib)
    channels, planes, times = (int(facts.get(f"Size{axis}", 1)) for axis in "CZT")
    if times > 1:
        raise DataError(f"{path} has {times} time points; expected one; extract it first")
    if channels * planes != count:
        raise DataError(f"{path} has {count} pages; its OME description states {channels} channels of {planes} planes")
    sizes = [facts.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    units = {unit_name(facts.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"}
    spacing = None
    if all(sizes) and len(units) == 1:
        z, y, x = (float(size or 0) for size in sizes)
        spacing = (z, y, x)
    first = facts.get("DimensionOrder", "XYCZT").find("C") < facts.get("DimensionOrder", "XYCZT").find("Z")
    return Pages(channels, planes, first, spacing, units.pop() if spacing else None)
