"""Labels of segmentations as whole numbers, also where a file stores them as floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import DataError

__all__ = ["read_whole_labels"]

ROUNDING = 1e-3
"""Largest distance from a whole number that scaling in float32 explains, e.g. 100 · 0.01 = 0.99999998."""


def read_whole_labels(values: NDArray[Any], where: object) -> NDArray[Any]:
    """Return labels as whole numbers; integers stay as they are, floats become int64.

    Args:
        values: labels of any shape.
        where: the file, for the message.

    Raises:
        DataError: values that are not whole numbers, such as 0.5 or NaN.

    Example:
        >>> read_whole_labels(np.array([0, 0.99999998, 2], np.float32), "seg.nii.gz")
        array([0, 1, 2])
    """
    if values.dtype.kind in "bui":
        return values
    rounded = np.rint(values)
    wrong = ~np.isclose(values, rounded, rtol=0, atol=ROUNDING) | ~np.isfinite(values)
    if wrong.any():
        shown = ", ".join(f"{value:g}" for value in np.unique(values[wrong])[:3])
        raise DataError(
            f"{where} contains {int(wrong.sum())} values that are not whole numbers, e.g. {shown}; expected labels: "
            "resample them by nearest neighbour, or threshold probabilities"
        )
    return np.asarray(rounded.astype(np.int64))
