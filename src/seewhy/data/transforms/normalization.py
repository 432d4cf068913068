"""Intensity normalisation of slices with checked options; the functions of arrays are those of `seewhy_run.arrays`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice
from seewhy_run.arrays import intensity
from seewhy_run.arrays.body import body_mask
from seewhy_run.arrays.intensity import (
    IntensityScale,
    background_of,
    make_scale,
    normalize_intensity,
    scale_to_unit,
)
from seewhy_run.arrays.statistics import IntensityStatistics, measure
from seewhy_run.errors import RunError

__all__ = [
    "IntensityNormalization",
    "IntensityScale",
    "IntensityStatistics",
    "body_mask",
    "channels_first",
    "finite",
    "make_scale",
    "measure",
    "scale_to_unit",
]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class IntensityNormalization:
    """Normalises the intensities of slices, in the same way in training and evaluation.

    Attributes:
        kind: `robust` (median 0 and median absolute deviation 1 over the body, clipped at ±5, -4 outside: a large
            or bright lesion hardly changes it), `zscore` (mean 0 and deviation 1 over the body), `window` (percentiles
            of the body to 0..1) or `imagenet` (0..255, then ImageNet's mean and deviation; needs three channels).
        over: whether statistics are those of the whole `patient` or of each `slice`.
        percentiles: ends of the window.

    Raises:
        ConfigError: values that do not exist or are out of range.

    Example:
        >>> image = np.array([[[0, 0, 0, 0], [0, 2, 4, 0], [0, 6, 8, 0], [0, 0, 0, 0]]], np.float32)
        >>> statistics = measure([image], percentiles=(0, 100))  # of the body, the four pixels above 0
        >>> IntensityNormalization("window", percentiles=(0, 100))(image, statistics).max().item()
        1.0
    """

    kind: str = "zscore"
    over: str = "patient"
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        check_choice(self.kind, ("robust", "zscore", "window", "imagenet"), "data.normalize")
        check_choice(self.over, ("patient", "slice"), "data.normalize_over")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ConfigError(f"data.percentiles={list(self.percentiles)} must rise and lie in 0..100")

    def __call__(self, image: FloatArray, statistics: IntensityStatistics) -> FloatArray:
        """Normalise an image [C, H, W] (or any shape with channels first); constant images become zero."""
        return normalize_intensity(image, statistics, self.kind)

    def background(self, statistics: IntensityStatistics, channels: int) -> FloatArray:
        """Value of the background after normalisation, [C, 1, 1], to pad with."""
        return background_of(statistics, channels, self.kind)


def channels_first(array: NDArray[Any], *, channels: int, where: str) -> FloatArray:
    """Bring an image to [C, H, W] float32 with finite values; see `seewhy_run.arrays.intensity.channels_first`.

    Raises:
        DataError: another shape, or no finite value at all.
    """
    try:
        return intensity.channels_first(array, channels=channels, where=where)
    except RunError as error:
        raise DataError(str(error)) from None


def finite(image: FloatArray, where: str) -> FloatArray:
    """Replace NaN by the smallest finite value of an array, infinities by its smallest and largest.

    Raises:
        DataError: no finite value at all.
    """
    try:
        return intensity.finite(image, where)
    except RunError as error:
        raise DataError(str(error)) from None
