"""Intensity normalisation by statistics of a body, affine scales of channels, and images of the expected shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seewhy_run.arrays.statistics import IntensityStatistics
from seewhy_run.errors import RunError

__all__ = [
    "IntensityScale",
    "background_of",
    "channels_first",
    "finite",
    "full_scale",
    "make_scale",
    "normalize_intensity",
    "scale_percentiles",
    "scale_to_unit",
]

FloatArray = NDArray[np.float32]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
LEAST = 1e-8
"""Smallest deviation or range to divide by in a scale."""
LARGEST = 1e30
"""Largest intensity; sums of larger ones can exceed float32."""
REACH = 5.0
"""`robust` values are clipped at this many deviations from the median."""
OUTSIDE = -4.0
"""`robust` value outside the body."""


@dataclass(frozen=True)
class IntensityScale:
    """Affine normalisation of one channel in float32: (clip(v, low, high) - shift) / divisor.

    Example:
        >>> IntensityScale(low=-100, high=300, shift=100, divisor=50)(np.array([-1000, 0, 200]))
        array([-4., -2.,  2.], dtype=float32)
    """

    low: float = -math.inf
    high: float = math.inf
    shift: float = 0.0
    divisor: float = 1.0

    def __call__(self, values: NDArray[Any]) -> FloatArray:
        """Return normalised values."""
        out = values.astype(np.float32)
        self.apply(out)
        return out

    def apply(self, values: FloatArray) -> None:
        """Normalise in place, in the order of operations of nnU-Net's classes."""
        if math.isfinite(self.low) or math.isfinite(self.high):
            np.clip(values, self.low, self.high, out=values)
        if self.shift:
            values -= np.float32(self.shift)
        if self.divisor != 1:
            values /= np.float32(self.divisor)


def make_scale(scheme: str, numbers: Mapping[str, float]) -> IntensityScale:
    """Build the scale of a normalisation scheme for volumes.

    Args:
        scheme: `ct` (clip to `lower` and `upper`, then z-score), `zscore`, `rescale` (`low` to 0 and `high` to 1),
            `percentile` (the same after clipping), `scale` (divide by `by`) or `none`.
        numbers: `lower`, `upper`, `mean`, `std`, `low`, `high` and `by`, as far as the scheme needs them.
    """
    if scheme in ("ct", "zscore"):
        low, high = (numbers["lower"], numbers["upper"]) if scheme == "ct" else (-math.inf, math.inf)
        return IntensityScale(low, high, numbers["mean"], max(numbers["std"], LEAST))
    if scheme in ("rescale", "percentile"):
        low, high = numbers["low"], numbers["high"]
        limits = (low, high) if scheme == "percentile" else (-math.inf, math.inf)
        return IntensityScale(*limits, shift=low, divisor=max(high - low, LEAST))
    return IntensityScale(divisor=float(numbers["by"]) if scheme == "scale" else 1.0)


def normalize_intensity(image: FloatArray, statistics: IntensityStatistics, kind: str) -> FloatArray:
    """Normalise an image [C, H, W] (or any shape with channels first); constant images become zero.

    Args:
        image: of raw intensities.
        statistics: of its patient or slice.
        kind: `robust` (median 0 and median absolute deviation 1 over the body, clipped at ±5, -4 outside), `zscore`
            (mean 0 and deviation 1 over the body), `window` (`low` and `high` to 0 and 1) or `imagenet` (0 to 255,
            then ImageNet's mean and deviation; needs three channels).
    """
    s = statistics
    if kind == "robust":
        outside = image == np.float32(s.background) if np.isnan(s.threshold) else image <= np.float32(s.threshold)
        values = np.clip((image - np.float32(s.median)) / np.float32(_positive(s.mad)), -REACH, REACH)
        return np.where(outside, np.float32(OUTSIDE), values).astype(np.float32)
    if kind == "zscore":
        return np.asarray((image - np.float32(s.mean)) / np.float32(_positive(s.std)), np.float32)
    if kind == "imagenet" and s.whole and s.peak <= 255:
        bytes_ = image  # 8-bit images are on the scale already
    else:
        unit = scale_to_unit(image, s.low, _positive(s.high - s.low))
        if kind == "window":
            return np.asarray(unit, np.float32)
        bytes_ = unit * np.float32(255)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    return np.asarray((bytes_ - mean) / std, np.float32)


def background_of(statistics: IntensityStatistics, channels: int, kind: str) -> FloatArray:
    """Value of the background after normalisation, [C, 1, 1], to pad with."""
    return normalize_intensity(np.full((channels, 1, 1), statistics.background, np.float32), statistics, kind)


def scale_to_unit(values: FloatArray, low: float, width: float) -> FloatArray:
    """Scale `low` to 0 and `low + width` to 1, and clip the values outside."""
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(width), 0, 1), np.float32)


def scale_percentiles(values: FloatArray, share: float) -> FloatArray:
    """Scale the percentiles `share` and 100 - `share` to 0 and 1, and clip the values outside."""
    low, high = np.percentile(values, [share, 100 - share])
    if high <= low:  # nearly all pixels have one value, so the extremes are used
        low, high = values.min(), values.max()
    if high <= low:
        return np.zeros_like(values)
    return scale_to_unit(values, low, high - low)


def full_scale(dtype: np.dtype[Any]) -> float:
    """Value of white in a picture's type of numbers: 65535 for 16 bits, 255 for other integers, 1 for floats."""
    return 65535.0 if dtype == np.uint16 else 255.0 if dtype.kind in "ui" else 1.0


def channels_first(array: NDArray[Any], *, channels: int, where: str) -> FloatArray:
    """Bring an image to [C, H, W] float32 with finite values.

    Args:
        array: HxW, HxWx1, 1xHxW, HxWx3 or 3xHxW of any real type; NaN becomes the smallest finite value of the
            image, infinities its smallest and largest.
        channels: 1 (three channels are averaged) or 3 (one channel is repeated).
        where: the file, for messages.

    Raises:
        RunError: another shape, or no finite value at all.
    """
    if array.ndim == 2:
        image = array[None]
    elif array.ndim == 3 and array.shape[0] in (1, 3) and (array.shape[2] not in (1, 3) or array.shape[1] > 3):
        image = array
    elif array.ndim == 3 and array.shape[2] in (1, 3):
        image = np.moveaxis(array, 2, 0)
    else:
        raise RunError(f"{where} has shape {array.shape}; expected one slice as HxW, HxWx1, 1xHxW, HxWx3 or 3xHxW")
    whole = image.dtype.kind in "bui"  # integers are finite
    image = image.astype(np.float32)
    if not whole:
        image = finite(image, where)
    if image.shape[0] == channels:
        return np.ascontiguousarray(image)
    if channels == 1:
        return image.mean(0, keepdims=True, dtype=np.float32)
    return np.repeat(image, channels, axis=0)


def finite(image: FloatArray, where: str) -> FloatArray:
    """Replace NaN by the smallest finite value of an array, infinities by its smallest and largest.

    Args:
        image: of any shape; returned unchanged if all its values are finite.
        where: the file, for messages.

    Raises:
        RunError: no finite value at all, or values so large that float32 cannot sum them.
    """
    good = np.isfinite(image)
    if not good.any():
        raise RunError(f"{where} holds no finite value; write it again or delete it")
    whole = bool(good.all())
    known = image if whole else image[good]
    low, high = float(known.min()), float(known.max())
    if max(-low, high) > LARGEST:
        raise RunError(
            f"{where} holds values from {low:.3g} to {high:.3g}; expected intensities up to {LARGEST:g}; it is "
            "damaged, or its bytes have another order; write it again"
        )
    return image if whole else np.nan_to_num(image, nan=low, posinf=high, neginf=low)


def _positive(value: float) -> float:
    return value if value > 1e-12 else 1.0
