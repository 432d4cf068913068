"""Otsu's thresholds: the cuts of a histogram into two or three classes with the largest variance between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from seewhy_run.arrays.statistics import otsu_cuts

__all__ = ["otsu_thresholds"]


def otsu_thresholds(values: ArrayLike, *, classes: int = 2, bins: int = 256) -> list[float]:
    """Thresholds that maximise the variance between classes (Otsu 1979, eq. 14; for three classes eq. 22).

    Args:
        values: finite intensities of any shape.
        classes: 2 or 3.
        bins: number of histogram bins, evenly spaced from the lowest to the highest value.

    Returns:
        `classes - 1` increasing thresholds. A value belongs to the upper class if it is *greater* than the threshold.
        With fewer distinct values than classes, every threshold is the highest value, so nothing lies above it.

    Raises:
        ValueError: there are no values, or `classes` is not 2 or 3.

    Example:
        >>> dark, medium, bright = [10, 11, 12], [50, 51], [90, 91, 92]
        >>> low, high = otsu_thresholds([*dark, *medium, *bright], classes=3)
        >>> 12 <= low < 50 and 51 <= high < 90
        True
    """
    if classes not in (2, 3):
        raise ValueError(f"classes={classes} is not supported; expected 2 or 3")
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("no values to threshold")
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, bins=bins, range=(low, high) if high > low else (low, low + 1.0))
    if np.count_nonzero(counts) < classes:
        return [high] * (classes - 1)
    # A value on the right edge of a bin is counted in the next bin, so the threshold is the largest float below it.
    return [float(np.nextafter(edges[cut + 1], -np.inf)) for cut in otsu_cuts(counts, classes=classes)]
