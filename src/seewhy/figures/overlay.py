"""A heat map on its image: transparent where the heat is low, on one stated scale for all images.

One sample beside its maps in a row: plain arrays, made fast enough for thousands of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from seewhy.figures.colours import COLORMAPS, DIVERGING, RGB, colour_table, levels
from seewhy.figures.style import TRUTH
from seewhy.io.atomic import atomic_path

__all__ = [
    "COLORMAPS",
    "RGB",
    "add_title_and_bar",
    "draw_outline",
    "enlarge",
    "grey",
    "overlay",
    "strip",
    "write_strip",
]

STRONGEST = 0.75
"""Opacity at the top of the scale; the image shows through even there."""


def grey(image: NDArray[np.generic], *, window: tuple[float, float] | None = None) -> RGB:
    """Image as RGB.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3] of any number type; NaN becomes black.
        window: values that become black and white. Where None, uint8 keeps its values, and of other types these
            are the percentiles .5 and 99.5, so that a few very bright pixels do not darken all others.

    Returns:
        [H, W, 3] uint8.
    """
    picture = np.asarray(image)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(f"image of shape {np.shape(image)}; expected [H, W], [H, W, 1] or [H, W, 3]")
    if picture.dtype != np.uint8 or window is not None:
        values = picture.astype(np.float32)
        low, high = window or _window(values[np.isfinite(values)])
        values = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
        picture = (np.clip(values, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def overlay(
    image: NDArray[np.generic],
    heat: NDArray[np.generic],
    *,
    scale: tuple[float, float] = (0.0, 1.0),
    colormap: str = "inferno",
    window: tuple[float, float] | None = None,
) -> RGB:
    """Lay a heat map over an image; where the heat is at the bottom of the scale the image is unchanged.

    Colour and opacity both grow with the heat. The scale is given and not taken from the map, so that two
    pictures can be compared and a map of a healthy slice stays empty. With the diverging map it is zero that
    leaves the image unchanged.

    Args:
        image: [H, W] or [H, W, 3], see `grey`.
        heat: [H, W]; NaN counts as no heat.
        scale: heat of no colour and of full colour; values outside are clipped. From -a to a for `DIVERGING`.
        colormap: one of `COLORMAPS`, or `DIVERGING` for signed maps.
        window: grey window of the image, see `grey`.

    Returns:
        [H, W, 3] uint8.
    """
    base = grey(image, window=window)
    heat = np.asarray(heat)
    if heat.shape != base.shape[:2]:
        raise ValueError(f"heat of shape {heat.shape} on an image of {base.shape[:2]}; they must be the same")
    signed = colormap == DIVERGING
    table = colour_table(colormap)
    level = levels(np.nan_to_num(heat.astype(np.float32), nan=0.0 if signed else scale[0]), scale, signed=signed)
    colour = table[(level * (len(table) - 1) + 0.5).astype(np.intp)]
    alpha = (STRONGEST * (np.abs(2.0 * level - 1.0) if signed else level))[:, :, None]
    return (base * (1.0 - alpha) + colour * alpha + 0.5).astype(np.uint8)


def draw_outline(picture: RGB, mask: NDArray[np.generic]) -> RGB:
    """Draw the edge of an annotation into a copy of a picture.

    Args:
        picture: [H, W, 3].
        mask: [H, W], not zero is lesion; of it the pixels that touch the outside (4 neighbours) are drawn, and the
            image's edge counts as outside.
    """
    lesion = np.asarray(mask) > 0
    padded = np.pad(lesion, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    drawn = picture.copy()
    drawn[lesion & ~inside] = TRUTH
    return drawn


def _window(values: NDArray[np.float32]) -> tuple[float, float]:
    """Percentiles .5 and 99.5, or lowest and highest where nearly all values are the same."""
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def enlarge(array: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """Array [H, W] or [H, W, 3] with both sides a whole factor larger, bilinearly."""
    height, width = array.shape[:2]
    size = (width * factor, height * factor)
    return np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR))


def add_title_and_bar(picture: RGB, *, title: str, scale: tuple[float, float], colormap: str) -> Image.Image:
    """Picture on white with title lines above and the colour bar at the right."""
    height, width = picture.shape[:2]
    font = _font(14)
    lines = _wrapped(title, font, width + 56) if title else []
    top, line = 8, 19
    offset = top + line * len(lines) + (6 if lines else 0)
    page = Image.new("RGB", (width + 8 + 64, height + offset + 8), "white")
    page.paste(Image.fromarray(picture), (8, offset))
    draw = ImageDraw.Draw(page)
    for i, text in enumerate(lines):
        draw.text((8, top + line * i), text, fill=(31, 35, 40), font=font)
    ramp = colour_table(colormap)[np.linspace(255, 0, height).astype(np.intp)].astype(np.uint8)
    page.paste(Image.fromarray(np.repeat(ramp[:, None], 12, axis=1)), (width + 16, offset))
    for share, anchor in ((0.0, "ls"), (0.5, "lm"), (1.0, "la")):
        value = scale[0] + share * (scale[1] - scale[0])
        place = (width + 33, offset + round((1 - share) * (height - 1)))
        draw.text(place, f"{value:.3g}", fill=(31, 35, 40), font=_font(12), anchor=anchor)
    return page


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


GAP = 4
"""White pixels between two cells."""


def strip(
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    mask: NDArray[np.generic] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    side: int = 256,
) -> RGB:
    """The image, with the true outline where known, and one overlay per map, left to right.

    Args:
        image: [H, W] or [H, W, 3].
        maps: name → [H, W], all on the one given scale.
        mask: [H, W], its outline is drawn on the image alone, so that it does not hide a map.
        scale: heat of no and of full colour.
        side: small images are enlarged by a whole factor until the shorter side has about so many pixels.

    Returns:
        [H', W', 3] uint8.
    """
    factor = max(1, round(side / min(image.shape[:2])))
    base: RGB = np.asarray(enlarge(grey(image), factor), np.uint8)
    first = base if mask is None else draw_outline(base, np.kron(np.asarray(mask) > 0, np.ones((factor, factor), bool)))
    heats = [enlarge(np.asarray(heat, np.float32), factor) for heat in maps.values()]
    cells = [first, *(overlay(base, heat, scale=scale) for heat in heats)]
    gap = np.full((base.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for cell in cells for part in (cell, gap)][:-1], axis=1)


def write_strip(
    path: str | Path,
    image: NDArray[np.generic],
    maps: Mapping[str, NDArray[np.generic]],
    *,
    title: str = "",
    mask: NDArray[np.generic] | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
    side: int = 256,
) -> Path:
    """Write a strip with its title, the names of the maps and the colour bar; atomically.

    Args:
        path: a `.png`.
        image: see `strip`.
        maps: see `strip`.
        title: one line above, e.g. the sample's name, probability and label.
        mask: see `strip`.
        scale: see `strip`; its ends are written beside the colour bar.
        side: see `strip`.
    """
    picture = strip(image, maps, mask=mask, scale=scale, side=side)
    first = "image" if mask is None else "image, true outline"
    line = " | ".join([first, *maps])
    with atomic_path(path) as temporary:
        page = add_title_and_bar(picture, title=f"{title}  ({line})", scale=scale, colormap="inferno")
        page.save(temporary, format="PNG", compress_level=3)
    return Path(path)
