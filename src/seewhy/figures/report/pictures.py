"""Small pictures of a case for the report's browser: images, maps as 8 bit levels and masks, slice by slice."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seewhy.figures.colours import RGB
from seewhy.figures.overlay import grey
from seewhy.figures.report.cases import PictureLayer, PicturePlane, PictureSlice, choose_slices
from seewhy.figures.style import turn_upright
from seewhy.io.geometry import Display

__all__ = [
    "ArrayLayer",
    "draw_planes",
    "encode_heat",
    "encode_image",
    "encode_mask",
    "encode_slice",
    "fit_size",
    "measure_window",
]


def fit_size(shape: tuple[int, ...], *, side: int, aspect: float = 1.0) -> tuple[int, int]:
    """Width and height in pixels of a picture with square pixels, whose longer side has at most `side`.

    Args:
        shape: rows and columns of the array.
        side: longest side in pixels; smaller arrays are not enlarged, except to make their pixels square.
        aspect: height of a pixel in pixel widths.

    Example:
        >>> fit_size((240, 480), side=160), fit_size((40, 80), side=160, aspect=2.0)
        ((160, 80), (80, 80))
    """
    rows, columns = shape[0] * aspect, float(shape[1])
    factor = min(1.0, side / max(rows, columns))
    return max(1, round(columns * factor)), max(1, round(rows * factor))


def encode_image(picture: RGB, size: tuple[int, int], *, quality: int = 80) -> str:
    """Image [H, W, 3] as WebP of this width and height."""
    image = Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS)
    return _encode(image, "WEBP", quality=quality, method=4)


def encode_heat(levels: NDArray[np.floating[Any]], size: tuple[int, int], *, signed: bool = False) -> str:
    """Map [H, W] as grey WebP, in which 255 is 1 and black is 0; for signed maps 128 is 0 and black is -1."""
    values = np.nan_to_num(np.asarray(levels, np.float32))
    smooth = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    scaled = 128 + 127 * np.clip(smooth, -1, 1) if signed else 255 * np.clip(smooth, 0, 1)
    return _encode(Image.fromarray((scaled + 0.5).astype(np.uint8)), "WEBP", quality=85, method=4)


def encode_mask(mask: NDArray[Any], size: tuple[int, int]) -> str:
    """Mask [H, W] as PNG with one bit per pixel; a mask that is smaller than a pixel of the picture stays visible."""
    selected = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
    shares = np.asarray(selected.resize(size, Image.Resampling.BOX if size[0] < selected.width else NEAREST))
    least = 128 if (shares >= 128).any() else 1
    return _encode(
        Image.fromarray(np.where(shares >= least, 255, 0).astype(np.uint8)).convert("1"), "PNG", optimize=True
    )


NEAREST = Image.Resampling.NEAREST


def _encode(image: Image.Image, form: Literal["WEBP", "PNG"], **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


Array = NDArray[Any]
AXES = ("Z", "Y", "X")
"""Names of the planes across the axes of a volume."""


@dataclass(frozen=True)
class ArrayLayer:
    """A layer with its values.

    Attributes:
        layer: what it is.
        values: [S, H, W] of an image of any range, of a map in shares of the full colour of all cases, or of a mask.
        window: values of an image that are black and white.
    """

    layer: PictureLayer
    values: Array
    window: tuple[float, float] = (0.0, 1.0)


def measure_window(image: Array) -> tuple[float, float]:
    """Values drawn black and white, the same for all slices: percentiles .5 and 99.5, without a few bright pixels."""
    values = np.asarray(image, np.float32).reshape(-1)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values[:: max(1, values.size // 1_000_000)], (0.5, 99.5)))
    return (low, high) if high > low else (float(values.min()), float(values.max()) + 1e-6)


def draw_planes(
    layers: Sequence[ArrayLayer],
    *,
    numbers: Sequence[int],
    spacing: Sequence[float] | None,
    display: Display,
    max_slices: int,
    side: int,
    three: bool = False,
) -> tuple[list[PictureLayer], list[PicturePlane]]:
    """Draw the slices of a case.

    Args:
        layers: at least one, of equal shapes.
        numbers: number in the scan of each of the S slices.
        spacing: millimetres between slices (may be missing), rows and columns; None or NaN if unknown.
        display: turn that brings a slice upright.
        max_slices: most slices of a plane; others are left out evenly.
        side: longest side of a picture in pixels.
        three: draw planes across all three axes.

    Returns:
        The layers, with the brightest level of each map, and the planes.
    """
    layers = [_normalize_map(item) for item in layers]
    steps = _complete_spacing(spacing)
    planes = [_draw_plane(layers, 0, numbers, steps, display, max_slices, side)]
    if three:
        for axis in (1, 2):
            own = list(range(layers[0].values.shape[axis]))
            planes.append(_draw_plane(layers, axis, own, steps, Display(), max_slices, side))
        planes = [replace(plane, name=name) for plane, name in zip(planes, AXES, strict=True)]
    return [item.layer for item in layers], planes


def _normalize_map(item: ArrayLayer) -> ArrayLayer:
    """Divide a map by its largest magnitude, which the layer keeps, so that 8 bits are enough for a faint map."""
    if item.layer.kind != "map":
        return item
    values = np.nan_to_num(np.asarray(item.values, np.float32))
    top = float(np.abs(values).max())
    layer = replace(item.layer, top=top if top > 0 else 1.0)
    return replace(item, layer=layer, values=values / layer.top)


def _complete_spacing(spacing: Sequence[float] | None) -> tuple[float | None, float | None, float | None]:
    """Spacing of slices, rows and columns, None where unknown."""
    known = [float(step) if np.isfinite(step) and step > 0 else None for step in spacing or ()]
    if len(known) == 2:
        return None, known[0], known[1]
    return (known[0], known[1], known[2]) if len(known) == 3 else (None, None, None)


def _draw_plane(
    layers: Sequence[ArrayLayer],
    axis: int,
    numbers: Sequence[int],
    steps: Sequence[float | None],
    display: Display,
    max_slices: int,
    side: int,
) -> PicturePlane:
    total = layers[0].values.shape[axis]
    key = _find_key(layers, axis)
    positions = choose_slices(total, max_slices, key)
    row, column = (step for i, step in enumerate(steps) if i != axis)
    if display.transpose:
        row, column = column, row
    aspect = row / column if row and column else 1.0
    slices = []
    for position in positions:
        pictures = [encode_slice(item, item.values.take(position, axis), display, aspect, side) for item in layers]
        slices.append(PictureSlice(int(numbers[position]), pictures))
    shape = list(layers[0].values.shape)
    del shape[axis]
    columns = shape[0] if display.transpose else shape[1]
    return PicturePlane(
        slices=slices, key=positions.index(key), total=total, sides=display.sides,
        mm=None if column is None else columns * column,
    )  # fmt: skip


def _find_key(layers: Sequence[ArrayLayer], axis: int) -> int:
    """Position of the slice that shows most of the truth, else of the prediction, else of the maps; else the middle."""
    across = tuple(i for i in range(3) if i != axis)
    for kind in ("truth", "prediction", "map"):
        amounts = [np.abs(item.values).sum(axis=across) for item in layers if item.layer.kind == kind]
        if amounts and np.max(np.sum(amounts, axis=0)) > 0:
            return int(np.argmax(np.sum(amounts, axis=0)))
    return int(layers[0].values.shape[axis] // 2)


def encode_slice(item: ArrayLayer, values: Array, display: Display, aspect: float, side: int) -> str | None:
    """Encode a slice [H, W] of a layer, upright; None for an empty mask."""
    upright = turn_upright(values, display)
    size = fit_size(upright.shape, side=side, aspect=aspect)
    if item.layer.kind == "image":
        return encode_image(grey(upright, window=item.window), size)
    if item.layer.kind == "map":
        return encode_heat(upright, size, signed=item.layer.signed)
    return encode_mask(upright, size) if np.any(upright) else None
