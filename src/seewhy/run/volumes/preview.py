"""Preview of a predicted volume: three planes with the result on top, read from coarse levels."""

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
from seewhy.io.zarr.opening import open_source
from seewhy.io.zarr.sink import VolumeSink
from seewhy.io.zarr.source import Box, VolumeSource
from seewhy.volumes.output_format import SCALES

__all__ = ["draw_preview"]

FINEST, COARSEST = 768, 192
"""Maximum voxels along the longest edge: of the drawn planes, and of the level that is searched for a point."""
READABLE = 2048
"""Longest edge up to which planes are read from a volume without coarser levels: they cross all its chunks."""


def draw_preview(
    source: VolumeSource,
    sink: VolumeSink,
    *,
    stored: str,
    picture: Path | None,
    options: Mapping[str, Any] | None = None,
) -> Path | None:
    """Draw three planes through an informative point of a finished output.

    Args:
        source: the input.
        sink: the output, with its coarser levels.
        stored: see `OutputFormat.stored`.
        picture: the PNG to write; None for an output that is not local.
        options: of the input's store, for its coarser levels.

    Returns:
        `picture`; None if the input is too large without coarser levels, the output is not local,
        or its values are logits.
    """
    if picture is None or stored == "logits":
        return None
    result = _level(sink, FINEST)
    image = _matching_input(source, result, options)
    if image is None:
        return None
    scale, several = float(SCALES.get(stored, 1)), len(sink.shape) == 4
    labels = sink.layout.labels or several
    to_labels = _ToLabels(scale, regions=sink.attributes.get("mode") == "regions") if several else None
    point = _point(sink, scale, to_labels, result.shape[1:])
    overlay = _planes(result, result.shape, point, to_labels)
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
        title=picture.stem,
        note=f"{str(source.path).rstrip('/').rpartition('/')[2]}; level {result.level} of the result",
    )
    return write_figure(picture, figure)


def _classes(sink: VolumeSink) -> list[str]:
    """Names of the labels 1, 2 and so on."""
    if (channels := sink.attributes.get("channels")) is not None:
        return list(channels if sink.attributes.get("mode") == "regions" else channels[1:])
    names = sink.layout.classes
    return [names.get(value, f"class {value}") for value in range(1, max(names, default=0) + 1)]


def _level(sink: VolumeSink, longest: int) -> VolumeSource:
    """Finest level of an output whose longest edge has at most `longest` voxels."""
    shapes = sink.layout.level_shapes()
    index = next((i for i, shape in enumerate(shapes) if max(shape[-3:]) <= longest), len(shapes) - 1)
    return open_source(sink.image, level=index)


def _matching_input(
    source: VolumeSource, result: VolumeSource, options: Mapping[str, Any] | None
) -> VolumeSource | None:
    """The input at about the size of the result's level, else its finest level if planes can be read, else None."""
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


class _ToLabels:
    """Converts probabilities of several classes or regions to labels, for a picture.

    Args:
        scale: stored value of probability 1.
        regions: whether channels are regions, which may all be absent, instead of classes with a background.
    """

    def __init__(self, scale: float, *, regions: bool) -> None:
        self.scale, self.regions = scale, regions

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Convert [K, z, y, x] to [z, y, x]."""
        best = values.argmax(axis=0)
        return np.where(values.max(axis=0) > 0.5 * self.scale, best + 1, 0) if self.regions else best


def _point(sink: VolumeSink, scale: float, to_labels: _ToLabels | None, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxel of a grid of this shape whose planes show much of the result."""
    coarse = _level(sink, COARSEST)
    values = coarse.read_all()
    result = values[0] if to_labels is None else to_labels(values)
    if to_labels is None and not sink.layout.labels:
        result = np.where(result >= 0.5 * scale, result / scale, 0).astype(np.float32)
    return _scale_point(informative_point(result), coarse.shape[1:], shape)


def _planes(
    source: VolumeSource,
    shape: tuple[int, ...],
    point: tuple[int, int, int],
    to_labels: _ToLabels | None = None,
) -> Planes:
    """Planes of a volume, sampled on another grid in which the point is given."""
    target = (shape[1], shape[2], shape[3])
    centre = _scale_point(point, target, source.shape[1:])

    def read_box(box: Box) -> NDArray[Any]:
        values = source.read(box)
        return values[0] if to_labels is None else to_labels(values)

    planes = read_planes(read_box, source.shape[1:], centre)
    z, y, x = (
        np.minimum(np.arange(size) * stored // size, stored - 1)
        for size, stored in zip(target, source.shape[1:], strict=True)
    )
    return Planes(planes.axial[np.ix_(y, x)], planes.coronal[np.ix_(z, x)], planes.sagittal[np.ix_(z, y)], point)


def _scale_point(point: tuple[int, int, int], shape: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, int, int]:
    """Convert a voxel to another grid over the same volume."""
    z, y, x = (
        min(int((index + 0.5) * target / size), target - 1)
        for index, size, target in zip(point, shape, other, strict=True)
    )
    return z, y, x
