"""Volumes in TIFF: one file with all planes, or a folder with one plane per file."""

from __future__ import annotations

import itertools
import os
import re
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.slices import natural_key
from seewhy.io.tiff import TIFF_SUFFIXES, load_tiff, open_tiff, read_page, reading_tiff, turn_page
from seewhy.io.zarr.mapped import file_identity
from seewhy.io.zarr.ome import unit_name
from seewhy.io.zarr.source import Box, Triple, VolumeSource, check_channels, native_dtype

__all__ = ["TIFF_SUFFIXES", "TiffSeries", "TiffSource", "list_planes", "read_voxel_size"]


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


# -- pages of one file ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TiffSeries:
    """Pages of a file arranged as a volume.

    Attributes:
        pages: number of a page in the series for each channel and plane, [C, Z].
        shape: (H, W) as stored.
        dtype: of the stored values.
        offset: of the values, if they follow each other and most have no page of their own (ImageJ above 4 GiB).
    """

    pages: NDArray[np.int64]
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int | None

    @classmethod
    def of(cls, tiff: Any, path: str) -> TiffSeries:
        """Arrange the pages of an open file by its OME, ImageJ or tifffile metadata.

        Raises:
            DataError: several series or time points, unknown axes, colours, or pages that are in other files.
        """
        series = list(tiff.series)
        if len(series) != 1:
            shown = ", ".join(f"{item.axes} {'x'.join(map(str, item.shape))}" for item in series[:6])
            raise DataError(
                f"{path} has {len(series)} series of pages ({shown}); expected one volume whose pages have one size "
                "and type; extract it first"
            )
        only = series[0]
        if tiff.is_ome and only.kind != "ome":
            raise DataError(
                f"{path}: its OME metadata do not fit its {len(tiff.pages)} pages, or other files hold some of them; "
                "save all pages in one file"
            )
        axes, sizes = _read_axes(only)
        if axes.endswith("S") and sizes[-1] == 1:
            axes, sizes = axes[:-1], sizes[:-1]
        if only.keyframe.axes != "YX" or not axes.endswith("YX"):
            raise DataError(
                f"{path} has the axes {axes} of sizes {tuple(sizes)}, and pages {only.keyframe.axes}; expected one "
                "value per voxel (no colours) with Y and X last; convert it"
            )
        pages = _arrange(axes[:-2], sizes[:-2], path)
        stored = list(only.pages)
        whole = len(stored) == pages.size and all(page is not None for page in stored)
        if not whole and only.dataoffset is None:
            raise DataError(
                f"{path} has {sum(page is not None for page in stored)} pages, its metadata describe {pages.size}; "
                "copy it again, or save all pages in one file"
            )
        return cls(pages, only.keyframe.shape, only.keyframe.dtype, None if whole else only.dataoffset)

    def read_plane(self, tiff: Any, path: Path, channel: int, plane: int) -> NDArray[Any]:
        """Read the plane of a channel from the open file, [H, W]."""
        number, only = int(self.pages[channel, plane]), tiff.series[0]
        if self.offset is None:
            return read_page(only.pages[number], path)
        start = self.offset + number * int(np.prod(self.shape)) * self.dtype.itemsize
        kind = self.dtype.newbyteorder(tiff.byteorder)
        values = np.fromfile(path, kind, int(np.prod(self.shape)), offset=start).reshape(self.shape)
        return turn_page(only.keyframe, values).astype(self.dtype.newbyteorder("="), copy=False)


def _read_axes(series: Any) -> tuple[str, tuple[int, ...]]:
    """Axes and sizes of a series, also those of size 1, which tifffile left out by default until 2026."""
    if hasattr(series, "get_axes"):
        return series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    return series.axes, series.shape


def _arrange(axes: str, sizes: Sequence[int], path: str) -> NDArray[np.int64]:
    """Page numbers by channel and plane, [C, Z].

    An axis without a name (`I` or `Q` of tifffile) is Z; of two the first is the channel, as in NPY.
    """
    longer = {place: axis for place, axis in enumerate(axes) if sizes[place] > 1}
    if "T" in longer.values():
        raise DataError(f"{path} has {sizes[axes.index('T')]} time points; expected one; extract it first")
    unnamed = [place for place, axis in longer.items() if axis in "IQ"]
    places = {axis: place for place, axis in longer.items() if axis in "CZ"}
    free = [axis for axis in "ZC" if axis not in places][: len(unnamed)]
    places |= dict(zip(reversed(free), unnamed, strict=False))
    if len(places) != len(longer):
        raise DataError(f"{path} has the axes {axes}YX of sizes {(*sizes,)}; expected channels C and planes Z")
    numbers = np.arange(int(np.prod(sizes))).reshape([sizes[place] for place in longer])
    numbers = numbers.transpose([list(longer).index(places[axis]) for axis in "CZ" if axis in places])
    return numbers.reshape([sizes[places[axis]] if axis in places else 1 for axis in "CZ"])


def read_voxel_size(tiff: Any, path: str) -> tuple[Triple | None, str | None]:
    """Voxel size along Z, Y and X and its unit, from the metadata of an open file; None where they do not state it.

    Raises:
        DataError: a damaged OME description.
    """
    if tiff.is_ome:
        return _ome_voxel_size(str(tiff.ome_metadata), path)
    shaped = tiff.shaped_metadata
    facts: Mapping[str, Any] = tiff.imagej_metadata or (shaped[0] if shaped else {})
    tags = tiff.pages[0].tags
    resolution = [tags.valueof(tag, (0, 1)) for tag in ("YResolution", "XResolution")]
    if "spacing" not in facts or not all(above and below for above, below in resolution):
        return None, None
    y, x = (below / above for above, below in resolution)
    # ImageJ writes other characters than ASCII as Java does: \\u00B5m.
    unit = re.sub(r"\\u([0-9A-Fa-f]{4})", lambda match: chr(int(match[1], 16)), str(facts.get("unit", "")))
    spacing = _drop_unknown((float(facts["spacing"]), y, x))
    return spacing, unit_name(unit) if spacing else None


def _ome_voxel_size(text: str, path: str) -> tuple[Triple | None, str | None]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: its OME description is damaged ({error})") from error
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    facts = {} if pixels is None else dict(pixels.attrib)
    sizes = [facts.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    units = {unit_name(facts.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"}
    if not all(sizes) or len(units) > 1:
        return None, None
    z, y, x = (float(size or 0) for size in sizes)
    spacing = _drop_unknown((z, y, x))
    return spacing, units.pop() if spacing else None


def _drop_unknown(sizes: Triple) -> Triple | None:
    """A voxel size; None for one that is 0, negative or not finite, as written by tools that do not know it."""
    return sizes if all(0 < size < float("inf") for size in sizes) else None


# -- one file per plane ---------------------------------------------------------------------------------------


def list_planes(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the planes of a folder in natural order: slice2 before slice10.

    Files that macOS or others hide (`._slice1.tif`) are left out with a warning.

    Args:
        folder: the folder.
        suffixes: of the planes, in lower case; capitals count as the same.

    Raises:
        DataError: planes of one name, missing numbers, or pictures of other formats; all of them.
    """
    present = [file for file in folder.iterdir() if file.is_file()]
    hidden = sorted(file.name for file in present if file.name.startswith("."))
    if hidden:
        warnings.warn(f"{folder}: left out {_shorten(hidden)}, which are hidden files, not planes", stacklevel=2)
    planes = [file for file in present if file.suffix.lower() in suffixes and file.name not in hidden]
    planes.sort(key=lambda file: natural_key(file.name.lower()))
    problems = _find_twins(planes) or _find_gaps(planes)
    foreign = sorted(file.name for file in present if file not in planes and file.name not in hidden)
    pictures = [name for name in foreign if Path(name).suffix.lower() in PICTURES]
    if pictures:
        problems.append(f"{_shorten(pictures)} between the planes; expected {' or '.join(suffixes)} only")
    if not planes:
        problems.append(f"no {' or '.join(suffixes)} files")
    if problems:
        raise DataError(problems, where=str(folder))
    return planes


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".dcm", ".tif", ".tiff", ".jp2", ".webp", ".pgm")
"""Suffixes of files that could be planes as well; text files with settings may lie next to the planes."""


def _find_twins(planes: Sequence[Path]) -> list[str]:
    """Planes whose names differ only in their suffix or in capitals."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in planes:
        groups[file.stem.lower()].append(file.name)
    return [f"{' and '.join(names)} are one plane twice; remove one" for names in groups.values() if len(names) > 1]


def _find_gaps(planes: Sequence[Path]) -> list[str]:
    """Missing or doubled numbers, if the names differ in one number only; any constant step is complete."""
    parts = [re.split(r"(\d+)", file.stem.lower()) for file in planes]
    if len(planes) < 2 or len({len(part) for part in parts}) > 1:
        return []
    varying = [place for place, values in enumerate(zip(*parts, strict=True)) if len(set(values)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return []
    numbers = [int(part[varying[0]]) for part in parts]
    step, place = min((after - before, place) for place, (before, after) in enumerate(itertools.pairwise(numbers)))
    if step == 0:
        return [f"{planes[place].name} and {planes[place + 1].name} have one number; remove one"]
    missing = [str(number) for number in range(numbers[0], numbers[-1], step) if number not in set(numbers)]
    if not missing:
        return []
    return [
        f"planes {_shorten(missing)} are missing between {planes[0].name} and {planes[-1].name}; add them, or number "
        "the planes without gaps if none is missing"
    ]


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
