"""Small pictures of a case browser: grey or colour images, heat as 8 bit levels, and masks, as base64 text."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from seewhy.figures.colours import RGB

__all__ = ["MEDIA_TYPES", "encode_heat", "encode_image", "encode_mask", "fit_size"]

MEDIA_TYPES = ("image/webp", "image/png", "image/jpeg")
"""Types of pictures that a case may have; a browser runs nothing in them, as it would in SVG."""


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
