"""Arrange the pages of a TIFF as a volume, by the metadata of OME, ImageJ or tifffile."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError
from seewhy.io.tiff import read_page, turn_page
from seewhy.io.zarr.ome import unit_name
from seewhy.io.zarr.source import Triple

__all__ = ["TiffSeries", "read_voxel_size"]


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
