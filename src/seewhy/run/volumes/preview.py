"""A picture of a predicted volume: three planes with the result on top, read from coarse levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import SeewhyError
from seewhy.figures.style import write_figure
from seewhy.figures.volumes.planes import Planes, informative_point, read_planes
from seewhy.figures.volumes.preview import volume_preview
from seewhy.io.zarr.opening import VolumeSource, open_source
from seewhy.io.zarr.sink import VolumeSink
from seewhy.io.zarr.source import Box
from seewhy.io.zarr.store import local_folder
from seewhy.volumes.output_format import SCALES

__all__ = ["draw_preview"]

FINEST, COARSEST = 768, 192
"""Voxels along the longest edge: at most of what is drawn, and of what is searched for a telling point."""
READABLE = 2048
"""Longest edge of a volume without coarser levels whose planes are still read: they cross all of its chunks."""


def draw_preview(
    source: VolumeSource, sink: VolumeSink, *, stored: str, options: Mapping[str, Any] | None = None
) -> Path | None:
    """Draw three planes through a telling point of a finished output.

    Args:
        source: the input.
        sink: the output, with its coarser levels.
        stored: what the values are, as `Head.stored` says.
        options: of the input's store, for its coarser levels.

    Returns:
        The PNG beside the output; None where the input is too large and has no coarser levels, the output is not
        local, or its values are logits.
    """
    folder = local_folder(sink.path)
    if folder is None or stored == "logits":
        return None
    result = _level(sink, FINEST)
    image = _likewise(source, result, options)
    if image is None:
        return None
    scale, several = float(SCALES.get(stored, 1)), len(sink.shape) == 4
    labels = sink.layout.labels or several
    most_likely = _MostLikely(scale, regions=sink.attributes.get("mode") == "regions") if several else None
    point = _point(sink, scale, most_likely, result.shape[1:])
    overlay = _planes(result, result.shape, point, most_likely)
    if not labels:
        overlay = overlay.map(lambda plane: plane / scale)
    figure = volume_preview(
        _planes(image, result.shape, point),
        overlay,
        kind="labels" if labels else "probability",
        spacing=result.spacing if sink.layout.spacing is not None else None,
        unit=result.unit,
        classes=_classes(sink),
        phantom=bool(sink.attributes.get("phantom")),
        title=folder.name,
        note=f"{source.path}; level {result.level} of the result",
    )
    return write_figure(folder.with_suffix(".png"), figure)


def _classes(sink: VolumeSink) -> list[str]:
    """Names of what is drawn as label 1, 2 and so on."""
    if (channels := sink.attributes.get("channels")) is not None:
        return list(channels if sink.attributes.get("mode") == "regions" else channels[1:])
    known = sink.layout.classes
    return [known.get(value, f"class {value}") for value in range(1, max(known, default=0) + 1)]


def _level(sink: VolumeSink, longest: int) -> VolumeSource:
    """The finest level of an output whose longest edge is at most so long."""
    shapes = sink.layout.level_shapes()
    index = next((i for i, shape in enumerate(shapes) if max(shape[-3:]) <= longest), len(shapes) - 1)
    return open_source(sink.image, level=index)


def _likewise(source: VolumeSource, result: VolumeSource, options: Mapping[str, Any] | None) -> VolumeSource | None:
    """The input at about the size of a result's level; its finest where that can be read, None where nothing can."""
    if max(source.shape[1:]) <= FINEST:
        return source
    position = 0
    while source.level is not None:
        try:
            coarse = open_source(source.path, level=position, channels=source.channels, options=options)
        except SeewhyError:
            break
        if max(coarse.shape[1:]) <= FINEST:
            return coarse
        position += 1
    return source if max(source.shape[1:]) <= READABLE or source.chunks == (1, 1, 1) else None


class _MostLikely:
    """From probabilities of several classes or regions to labels, for a picture.

    Args:
        scale: what probability 1 is stored as.
        regions: whether channels are regions, of which none may be there, instead of classes with the background.
    """

    def __init__(self, scale: float, *, regions: bool) -> None:
        self.scale, self.regions = scale, regions

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """From [K, z, y, x] to [z, y, x]."""
        best = values.argmax(axis=0)
        return np.where(values.max(axis=0) > 0.5 * self.scale, best + 1, 0) if self.regions else best


def _point(
    sink: VolumeSink, scale: float, most_likely: _MostLikely | None, shape: tuple[int, ...]
) -> tuple[int, int, int]:
    """A voxel of a grid of this shape whose planes show much of what was found."""
    coarse = _level(sink, COARSEST)
    z, y, x = coarse.shape[1:]
    values = coarse.read((slice(0, z), slice(0, y), slice(0, x)))
    found = values[0] if most_likely is None else most_likely(values)
    if most_likely is None and not sink.layout.labels:
        found = np.where(found >= 0.5 * scale, found / scale, 0).astype(np.float32)
    return _scaled(informative_point(found), coarse.shape[1:], shape)


def _planes(
    source: VolumeSource,
    shape: tuple[int, ...],
    point: tuple[int, int, int],
    most_likely: _MostLikely | None = None,
) -> Planes:
    """Planes of a volume with as many voxels as another one, whose point is given."""
    target = (shape[1], shape[2], shape[3])
    place = _scaled(point, target, source.shape[1:])

    def read(box: Box) -> NDArray[Any]:
        values = source.read(box)
        return values[0] if most_likely is None else most_likely(values)

    planes = read_planes(read, source.shape[1:], place)
    z, y, x = (
        np.minimum(np.arange(wanted) * own // wanted, own - 1)
        for wanted, own in zip(target, source.shape[1:], strict=True)
    )
    return Planes(planes.axial[np.ix_(y, x)], planes.coronal[np.ix_(z, x)], planes.sagittal[np.ix_(z, y)], point)


def _scaled(point: tuple[int, int, int], shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, int, int]:
    """The voxel of another grid over the same volume."""
    z, y, x = (
        min(int((place + 0.5) * wanted / own), wanted - 1)
        for place, own, wanted in zip(point, shape, other, strict=True)
    )
    return z, y, x
