"""Slices turned for the eye."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.io.orientation import Display

__all__ = ["upright"]


def upright(array: NDArray[Any], display: Display) -> NDArray[Any]:
    """Turn an image, mask or map for a picture.

    Args:
        array: [rows, columns] or [rows, columns, 3], as stored.
        display: how its data set is to be seen.

    Returns:
        A contiguous array of the same values; with `transpose` its first two sides change places.
    """
    turned = np.swapaxes(array, 0, 1) if display.transpose else array
    rows = slice(None, None, -1 if display.flip_rows else 1)
    columns = slice(None, None, -1 if display.flip_columns else 1)
    return np.ascontiguousarray(turned[rows, columns])
