"""Statistics of the intensities of a patient or slice: Otsu's cut, the background, and the body's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEASURED_SLICES", "IntensityStatistics", "evenly_spaced", "measure", "otsu_cuts"]

FloatArray = NDArray[np.float32]

SPIKE = 0.05
"""Share of pixels above which one exact value at the border counts as a removed background."""
MEASURED_SLICES = 24
"""Slices per patient that its statistics are taken from, evenly spread; the same in training and evaluation."""


def otsu_cuts(counts: NDArray[Any], *, classes: int = 2) -> list[int]:
    """Index of the last bin of every class except the highest, by an exhaustive search over cumulative sums.

    Args:
        counts: [bins] histogram counts of evenly spaced bins, at least `classes` of them not zero.
        classes: 2 or 3.
    """
    counts = counts.astype(np.float64)
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * np.arange(len(counts)))])

    def scatter(start: NDArray[np.int64] | int, stop: NDArray[np.int64] | int) -> NDArray[np.float64]:
        """Mass times squared mean of bins start..stop-1; the sum over classes is the variance between them + const."""
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


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the intensities of a patient or slice.

    Attributes:
        background: typical value outside the body.
        threshold: values above it are body; NaN where the background is one exact value.
        mean: over the body's pixels.
        std: over the body's pixels.
        median: over the body's pixels.
        mad: median absolute deviation from it, times 1.4826, which is the deviation of a normal distribution.
        low: lower end of the window (percentile of the body).
        high: upper end of the window.
        peak: largest value, to recognise 8-bit images.
        whole: whether all values are integers of 0 or more.
    """

    background: float
    threshold: float
    mean: float
    std: float
    median: float
    mad: float
    low: float
    high: float
    peak: float
    whole: bool


def evenly_spaced(count: int) -> list[int]:
    """Positions of at most `MEASURED_SLICES` of `count` slices, evenly spread, the first and the last included.

    Example:
        >>> evenly_spaced(3), len(evenly_spaced(100))
        ([0, 1, 2], 24)
    """
    return [round(place) for place in np.linspace(0, count - 1, min(count, MEASURED_SLICES))]


def measure(images: Sequence[FloatArray], *, percentiles: tuple[float, float] = (0.5, 99.5)) -> IntensityStatistics:
    """Measure the intensities of one patient's slices, or of one slice.

    The background is found from the images alone: one exact value that fills the border (a skull-stripped
    brain), or else all values below Otsu's threshold between air and tissue.

    Args:
        images: arrays [C, H, W], of any sizes.
        percentiles: ends of the window over the body's pixels.
    """
    values = np.concatenate([image.mean(0).ravel() if len(image) > 1 else image.ravel() for image in images])
    background, threshold = _background(values, images)
    inside = values[values != background] if np.isnan(threshold) else values[values > threshold]
    if inside.size < 2:
        inside = values
    low, high = np.percentile(inside, percentiles)
    median = float(np.median(inside))
    return IntensityStatistics(
        background=background,
        threshold=threshold,
        mean=float(inside.mean(dtype=np.float64)),
        std=float(inside.std(dtype=np.float64)),
        median=median,
        mad=1.4826 * float(np.median(np.abs(inside - np.float32(median)))),
        low=float(low),
        high=float(high),
        peak=float(values.max()),
        whole=bool(values.min() >= 0 and not np.any(values % 1)),
    )


def _background(values: FloatArray, images: Sequence[FloatArray]) -> tuple[float, float]:
    """Typical value outside the body, and the threshold to the body (NaN for one exact value)."""
    border = np.concatenate([_border(image.mean(0)) for image in images])
    levels, counts = np.unique(border, return_counts=True)
    most = counts.argmax()
    second = np.delete(counts, most).max(initial=0)
    value = levels[most]
    # A removed background is a single spike; noise of integers has neighbours of nearly the same height.
    if counts[most] > 4 * second and np.mean(values == value) >= SPIKE:
        return float(value), float("nan")
    threshold = _air_threshold(values)
    outside = values[values <= threshold]
    return float(np.median(outside)), threshold


def _border(gray: FloatArray) -> FloatArray:
    return np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])


def _air_threshold(values: FloatArray) -> float:
    """Otsu's threshold (1979) after clipping bright structures, so that it separates air from tissue."""
    bright = values[values >= values.mean()]
    clipped = np.minimum(values, np.median(bright))
    low, high = float(clipped.min()), float(clipped.max())
    if high <= low:
        return low
    counts, edges = np.histogram(clipped, bins=256, range=(low, high))
    # The histogram is taken in float32, the type of the values: in float64 some values fall into a neighbouring bin.
    return float(edges[otsu_cuts(counts)[0] + 1])
