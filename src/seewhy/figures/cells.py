"""Images and annotations brought to the size of a cell of a page."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from seewhy.figures.colours import RGB
from seewhy.figures.overlay import outlined
from seewhy.figures.sheet import font

__all__ = ["absent", "annotated", "fitted"]

Array = NDArray[Any]


def fitted(array: Array, width: int, *, aspect: float = 1.0, limit: float = 1.6) -> Array:
    """Array [H, W] or [H, W, 3] resized to a width, its shape kept.

    Args:
        array: uint8 stays uint8, everything else becomes float32; both are interpolated linearly.
        width: in pixels; less where the picture would otherwise be higher than `limit` widths.
        aspect: height of a pixel in pixel widths (the rows' spacing over the columns').
        limit: greatest height in widths.
    """
    rows, columns = array.shape[:2]
    factor = min(width / columns, limit * width / (rows * aspect))
    size = (max(1, round(columns * factor)), max(1, round(rows * aspect * factor)))
    if size == (columns, rows):
        return array
    kept = array if array.dtype == np.uint8 else array.astype(np.float32)
    return np.asarray(Image.fromarray(kept).resize(size, Image.Resampling.BILINEAR))


def annotated(picture: RGB, mask: Array | None) -> RGB:
    """A copy with the outline of an annotation of any size drawn in; the picture itself where there is none.

    Args:
        picture: [H, W, 3].
        mask: [h, w], not zero is annotated; brought to the picture's size.
    """
    if mask is None:
        return picture
    height, width = picture.shape[:2]
    resized = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    return outlined(picture, np.asarray(resized))


def absent(side: int, text: str) -> RGB:
    """A light square [side, side, 3] that says why it is empty, e.g. "not given"."""
    page = Image.new("RGB", (side, side), (240, 242, 245))
    draw = ImageDraw.Draw(page)
    draw.line((0, 0, side, side), fill=(208, 213, 219))
    draw.line((0, side, side, 0), fill=(208, 213, 219))
    face = font(13 if side > 150 else 11)
    half = face.getlength(text) / 2 + 6
    draw.rectangle((side / 2 - half, side / 2 - 12, side / 2 + half, side / 2 + 12), fill=(240, 242, 245))
    draw.text((side / 2, side / 2), text, fill=(89, 99, 110), font=face, anchor="mm")
    return np.asarray(page)
