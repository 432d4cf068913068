"""Draw a small textured square in a corner of an image, whose texture determines the class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TEXTURES", "draw_corner_mark"]

TEXTURES = ("plain", "horizontal stripes", "vertical stripes", "checkerboard")
"""Texture of the mark by class."""
SIDE = 0.16
"""Side of the square, as a share of the image's side."""
MARGIN = 0.06
"""Distance of the square from both edges of the image."""
STRIPE = 0.032
"""Width of a stripe."""
DARK, BRIGHT = 0.1, 0.9


def draw_corner_mark(label: int, *, size: int, seed: int, number: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Draw the mark of a class; its corner depends on seed and number only.

    Args:
        label: class, 0 to 3.
        size: pixels per side of the image.
        seed: seed of the data set.
        number: number of the image in it.

    Returns:
        Brightness [size, size] in units of the full scale, and the square [size, size], True inside.

    Example:
        >>> from seewhy.phantoms.corner_mark import draw_corner_mark
        >>> plain, inside = draw_corner_mark(0, size=64, seed=0, number=0)
        >>> striped, same = draw_corner_mark(1, size=64, seed=0, number=0)
        >>> int(inside.sum()), bool((inside == same).all()), bool((plain == striped)[inside].all())
        (100, True, False)
    """
    bottom, right = np.random.default_rng([seed, number, 100]).integers(0, 2, 2)
    side, margin, stripe = round(SIDE * size), round(MARGIN * size), max(round(STRIPE * size), 1)
    first = [size - margin - side if far else margin for far in (bottom, right)]
    inside = np.zeros((size, size), bool)
    inside[first[0] : first[0] + side, first[1] : first[1] + side] = True
    rows, columns = ((np.arange(size) - start) // stripe % 2 for start in first)
    down, across = np.broadcast_arrays(rows[:, None], columns[None])
    bright = (np.zeros_like(down), down, across, (down + across) % 2)[label] == 0
    return np.where(bright, BRIGHT, DARK).astype(np.float32), inside
