"""Overlays of heat maps on images, and strips of an image next to its overlays, as RGB arrays.

An image is unchanged where the heat is low. The scale is an argument, so that pictures can be compared. A strip is
written as a sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seewhy.figures.colours import COLORMAPS, DIVERGING, RGB, colour_table, levels
from seewhy.figures.labels import join_title
from seewhy.figures.sheet import Bar, Cell, sheet, write_sheet
from seewhy.figures.style import TRUTH

__all__ = [
    "COLORMAPS",
    "RGB",
    "draw_annotation",
    "draw_outline",
    "draw_region",
    "enlarge",
    "find_window",
    "grey",
    "overlay",
    "resize_to_width",
    "strip",
    "write_strip",
]

TALLEST = 1.6
"""Largest height of a picture in widths."""
STRONGEST = 0.75
"""Opacity at the top of the scale; the image shows through even there."""


def grey(image: NDArray[np.generic], *, window: tuple[float, float] | None = None) -> RGB:
    """Image as RGB picture.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3] of any number type; NaN becomes black.
        window: values drawn black and white. None keeps uint8 values, and uses the percentiles .5 and 99.5 of other
            types, so that a few very bright pixels do not darken the rest.

    Returns:
        [H, W, 3] uint8.

    Example:
        >>> picture = grey(np.array([[0.0, 50.0, 100.0]]), window=(0, 100))
        >>> picture[0, :, 0].tolist()
        [0, 128, 255]
    """
    picture = np.asarray(image)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(f"image of shape {np.shape(image)}; expected [H, W], [H, W, 1] or [H, W, 3]")
    if picture.dtype != np.uint8 or window is not None:
        values = picture.astype(np.float32)
        low, high = window or find_window(values)
        values = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
        picture = (np.clip(values, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def overlay(
    image: NDArray[np.generic],
    heat: NDArray[np.generic],
    *,
    scale: tuple[float, float] = (0.0, 1.0),
    colormap: str = "inferno",
) -> RGB:
    """Lay a heat map over an image.

    Colour and opacity both grow with the heat; at the bottom of the scale the image is unchanged. The scale does not
    depend on the map, so two pictures can be compared and the map of a healthy slice stays empty. With the diverging
    colour map the image is unchanged at zero.

    Args:
        image: [H, W] or [H, W, 3], see `grey`.
        heat: [H, W]; NaN draws nothing.
        scale: heat at zero and at full opacity; values outside are clipped. From -a to a for `DIVERGING`.
        colormap: one of `COLORMAPS`, or `DIVERGING` for signed maps.

    Returns:
        [H, W, 3] uint8.

    Example:
        >>> image, heat = np.full((2, 2), 128, np.uint8), np.array([[0.0, 1.0], [0.0, 0.0]])
        >>> picture = overlay(image, heat, scale=(0, 1))
        >>> picture[0, 0].tolist(), picture[0, 1].tolist()
        ([128, 128, 128], [221, 223, 155])
    """
    base = grey(image)
    heat = np.asarray(heat)
    if heat.shape != base.shape[:2]:
        raise ValueError(f"heat of shape {heat.shape} on an image of {base.shape[:2]}; expected the same shape")
    signed = colormap == DIVERGING
    table = colour_table(colormap)
    level = levels(np.nan_to_num(heat.astype(np.float32), nan=0.0 if signed else scale[0]), scale, signed=signed)
    colour = table[(level * (len(table) - 1) + 0.5).astype(np.intp)]
    alpha = (STRONGEST * (np.abs(2.0 * level - 1.0) if signed else level))[:, :, None]
    return (base * (1.0 - alpha) + colour * alpha + 0.5).astype(np.uint8)


def draw_outline(picture: RGB, mask: NDArray[np.generic]) -> RGB:
    """Copy of a picture with the outline of an annotation.

    Args:
        picture: [H, W, 3].
        mask: [H, W], non-zero is lesion. Drawn are its pixels with a neighbour (of 4) outside the lesion or the image.
    """
    lesion = np.asarray(mask) > 0
    padded = np.pad(lesion, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = picture.copy()
    drawn[lesion & ~inside] = TRUTH
    return drawn


def find_window(values: NDArray[np.float32]) -> tuple[float, float]:
    """Percentiles .5 and 99.5 of finite values, or the lowest and highest if nearly all values are equal."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (float(values.min()), max(float(values.max()), float(values.min()) + 1e-6))


def enlarge(array: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """Enlarge an array [H, W] or [H, W, 3] by an integer factor, bilinearly."""
    height, width = array.shape[:2]
    size = (width * factor, height * factor)
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


def resize_to_width(array: NDArray[Any], width: int, *, aspect: float = 1.0) -> NDArray[Any]:
    """Resize an array [H, W] or [H, W, 3] to a width, bilinearly, and keep its proportions.

    Args:
        array: uint8 stays uint8, other types become float32.
        width: width in pixels; less if the picture would be higher than `TALLEST` widths.
        aspect: height of a pixel in pixel widths (spacing of rows over spacing of columns).
    """
    rows, columns = array.shape[:2]
    factor = min(width / columns, TALLEST * width / (rows * aspect))
    size = (max(1, round(columns * factor)), max(1, round(rows * aspect * factor)))
    if size == (columns, rows):
        return array
    kept = array if array.dtype == np.uint8 else array.astype(np.float32)
    return np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR))


def draw_annotation(picture: RGB, mask: NDArray[Any] | None) -> RGB:
    """Copy of a picture with the outline of an annotation of any size; the picture itself without one.

    Args:
        picture: [H, W, 3].
        mask: [h, w], non-zero is annotated; resized to the picture.
    """
    if mask is None:
        return picture
    return draw_outline(picture, _fit_mask(mask, picture))


def _fit_mask(mask: NDArray[Any], picture: RGB) -> NDArray[np.bool_]:
    """Resize a mask to a picture."""
    height, width = picture.shape[:2]
    resized = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


DIMMED = 0.25
"""Brightness of a picture outside a region."""
REGION = (255, 160, 40)
"""Colour of the outline of a region."""


def draw_region(picture: RGB, mask: NDArray[Any]) -> RGB:
    """Copy of a picture with everything outside a region dimmed, and the region's outline.

    Args:
        picture: [H, W, 3].
        mask: [h, w], non-zero is inside; resized to the picture.
    """
    inside = _fit_mask(mask, picture)
    shown = np.where(inside[:, :, None], picture, (picture * DIMMED).astype(np.uint8))
    padded = np.pad(inside, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    shown[near & ~inside] = REGION  # outside, so that single pixels stay visible
    return shown


GAP = 4
"""White pixels between two cells."""
SIDE = 256
"""Shorter side of a picture in pixels."""


def strip(
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    mask: NDArray[np.generic] | None = None,
    side: int = SIDE,
) -> RGB:
    """The image, with the outline of the annotation if there is one, and one overlay per map, left to right.

    Args:
        image: [H, W] or [H, W, 3].
        maps: name → [H, W], all from 0 to 1.
        mask: [H, W]; its outline is drawn on the image only, so that it does not hide a map.
        side: small images are enlarged by an integer factor to about this shorter side in pixels.

    Returns:
        [H', W', 3] uint8.
    """
    cells = _strip_cells(image, maps, mask=mask, side=side)
    gap = np.full((cells[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)


def _strip_cells(
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    mask: NDArray[np.generic] | None,
    side: int,
) -> list[RGB]:
    """The image and the overlays of a strip."""
    factor = max(1, round(side / min(image.shape[:2])))
    base: RGB = np.asarray(enlarge(grey(image), factor), np.uint8)
    first = base if mask is None else draw_outline(base, np.kron(np.asarray(mask) > 0, np.ones((factor, factor), bool)))
    heats = [enlarge(np.asarray(heat, np.float32), factor) for heat in maps.values()]
    return [first, *(overlay(base, heat) for heat in heats)]


def write_strip(
    path: str | Path,
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    title: str = "",
    mask: NDArray[np.generic] | None = None,
    side: int = SIDE,
    doubts: Mapping[str, Sequence[str]] | None = None,
    phantom: bool = False,
) -> Path:
    """Write a strip with title, names above the pictures and colour bar, atomically.

    Args:
        path: `.png` file.
        image: see `strip`.
        maps: see `strip`.
        title: line above the strip, e.g. name, probability and label of the sample.
        mask: see `strip`.
        side: see `strip`.
        doubts: map → reasons not to trust it; the map is then marked, and the reasons are in a banner.
        phantom: whether the images are synthetic, which the title then states.
    """
    cells = _strip_cells(image, maps, mask=mask, side=side)
    outlined = mask is not None and bool(np.any(np.asarray(mask) > 0))
    names = ["image", *maps]
    distrusted = {name: reasons for name, reasons in (doubts or {}).items() if reasons and name in maps}
    row = [Cell(picture=cell, name=name, marked=name in distrusted) for cell, name in zip(cells, names, strict=True)]
    warnings = [f"{name}: {reason}" for name, reasons in distrusted.items() for reason in reasons]
    bar = Bar(scale=(0.0, 1.0), unit="map", row=0)
    return write_sheet(
        path,
        sheet(
            [row],
            title=join_title(title, phantom=phantom),
            warnings=warnings,
            bar=bar,
            foot="cyan: annotation, drawn on the image only" * outlined,
        ),
    )
