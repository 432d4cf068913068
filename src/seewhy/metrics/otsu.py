"""Otsu's thresholds: where a histogram falls apart into two or three classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["otsu_thresholds"]


def otsu_thresholds(values: ArrayLike, *, classes: int = 2, bins: int = 256) -> list[float]:
    """Thresholds that put most of the variance between the classes (Otsu 1979, eq. 14 and, for three, 22).

    Every pair of cuts of the histogram is tried, by cumulative sums.

    Args:
        values: intensities of any shape, finite.
        classes: 2 or 3.
        bins: of the histogram, evenly spread from the lowest to the highest value.

    Returns:
        `classes - 1` increasing thresholds; a value belongs to the class above where it is *greater*. With
        fewer distinct values than classes the highest value is given, so that nothing lies above it.

    Raises:
        ValueError: no values, or another number of classes.
    """
    if classes not in (2, 3):
        raise ValueError(f"classes={classes}: Otsu is here for 2 or 3 classes")
    data = np.asarray(values, dtype=np.float64).ravel()
    if data.size == 0:
        raise ValueError("no values to threshold")
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, bins=bins, range=(low, high) if high > low else (low, low + 1.0))
    if np.count_nonzero(counts) < classes:
        return [high] * (classes - 1)
    cuts = _best_cuts(counts.astype(np.float64), classes=classes)
    # The right edge of a bin belongs to the next one, hence the largest float below it.
    return [float(np.nextafter(edges[cut + 1], -np.inf)) for cut in cuts]


def _best_cuts(counts: NDArray[np.float64], *, classes: int) -> list[int]:
    """Last bin of every class but the highest."""
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * np.arange(len(counts)))])

    def scatter(start: NDArray[np.int64] | int, stop: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Mass times squared mean of bins start..stop-1; summed, the variance between up to constants."""
        total = np.asarray(mass[stop] - mass[start])
        return np.divide(
            np.asarray(moment[stop] - moment[start]) ** 2, total, out=np.zeros_like(total), where=total > 0
        )

    edge = np.arange(1, len(counts))
    if classes == 2:
        return [int(np.argmax(scatter(0, edge) + scatter(edge, len(counts))))]
    first, second = edge[:, None], edge[None, :]
    between = scatter(0, first) + scatter(first, second) + scatter(second, len(counts))
    between = np.where(first < second, between, -np.inf)
    lower, upper = np.unravel_index(int(np.argmax(between)), between.shape)
    return [int(lower), int(upper)]
