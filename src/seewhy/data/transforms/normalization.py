"""Intensity normalisation: affine scales of channels, statistics of a body, and arrays of the expected shape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seewhy.errors import ConfigError, DataError
from seewhy.options import check_choice
from seewhy.otsu import otsu_cuts

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

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
LEAST = 1e-8
"""Smallest deviation or range to divide by in a scale."""
REACH = 5.0
"""`robust` values are clipped at this many deviations from the median."""
OUTSIDE = -4.0
"""`robust` value outside the body."""
SPIKE = 0.05
"""Share of pixels above which one exact value at the border counts as a removed background."""


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
        s = statistics
        if self.kind == "robust":
            outside = image == np.float32(s.background) if np.isnan(s.threshold) else image <= np.float32(s.threshold)
            values = np.clip((image - np.float32(s.median)) / np.float32(_positive(s.mad)), -REACH, REACH)
            return np.where(outside, np.float32(OUTSIDE), values).astype(np.float32)
        if self.kind == "zscore":
            return np.asarray((image - np.float32(s.mean)) / np.float32(_positive(s.std)), np.float32)
        if self.kind == "imagenet" and s.whole and s.peak <= 255:
            bytes_ = image  # 8-bit images are on the scale already
        else:
            unit = scale_to_unit(image, s.low, _positive(s.high - s.low))
            if self.kind == "window":
                return np.asarray(unit, np.float32)
            bytes_ = unit * np.float32(255)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
        return np.asarray((bytes_ - mean) / std, np.float32)

    def background(self, statistics: IntensityStatistics, channels: int) -> FloatArray:
        """Value of the background after normalisation, [C, 1, 1], to pad with."""
        raw = np.full((channels, 1, 1), statistics.background, np.float32)
        return self(raw, statistics)


def scale_to_unit(values: FloatArray, low: float, width: float) -> FloatArray:
    """Scale `low` to 0 and `low + width` to 1, and clip the values outside."""
    return np.asarray(np.clip((values - np.float32(low)) / np.float32(width), 0, 1), np.float32)


def channels_first(array: NDArray[Any], *, channels: int, where: str) -> FloatArray:
    """Bring an image to [C, H, W] float32 with finite values.

    Args:
        array: HxW, HxWx1, 1xHxW, HxWx3 or 3xHxW of any real type; NaN becomes the smallest finite value of the
            image, infinities its smallest and largest.
        channels: 1 (three channels are averaged) or 3 (one channel is repeated).
        where: the file, for messages.

    Raises:
        DataError: another shape, or no finite value at all.
    """
    if array.ndim == 2:
        image = array[None]
    elif array.ndim == 3 and array.shape[0] in (1, 3) and (array.shape[2] not in (1, 3) or array.shape[1] > 3):
        image = array
    elif array.ndim == 3 and array.shape[2] in (1, 3):
        image = np.moveaxis(array, 2, 0)
    else:
        raise DataError(f"{where} has shape {array.shape}; expected one slice as HxW, HxWx1, 1xHxW, HxWx3 or 3xHxW")
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
        DataError: no finite value at all.
    """
    good = np.isfinite(image)
    if good.all():
        return image
    if not good.any():
        raise DataError(f"{where} holds no finite value; write it again or delete it")
    low, high = float(image[good].min()), float(image[good].max())
    return np.nan_to_num(image, nan=low, posinf=high, neginf=low)


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


def body_mask(image: FloatArray, statistics: IntensityStatistics) -> NDArray[np.bool_]:
    """Find the pixels of the body from intensities alone: the largest connected part, with its holes filled.

    Args:
        image: raw slice [C, H, W].
        statistics: of its patient.

    Returns:
        [H, W] bool; all False for a slice without body.
    """
    gray = image.mean(0)
    s = statistics
    above = gray != np.float32(s.background) if np.isnan(s.threshold) else gray > s.threshold
    parts, count = ndimage.label(above)
    if count > 1:
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        above = parts == sizes.argmax()
    return np.asarray(ndimage.binary_fill_holes(above), dtype=bool)


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


def _positive(value: float) -> float:
    return value if value > 1e-12 else 1.0
