"""Bootstrap over patients: intervals of means, of paired differences and of weighted scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Interval",
    "bca_bounds",
    "bootstrap_difference",
    "bootstrap_interval",
    "named_interval",
    "percentile_bounds",
    "resampled_weights",
]

LEAST = 3
"""Fewest values for an interval: resampling two patients gives only three different means."""


class Interval(NamedTuple):
    """Mean with the bounds of its interval."""

    mean: float
    low: float
    high: float


EVERYTHING = (-math.inf, math.inf)
"""Range of a score without limits."""


def bootstrap_interval(
    values: Sequence[float] | ArrayLike,
    *,
    limits: tuple[float, float] = EVERYTHING,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Mean of one value per patient with an interval that covers for few patients and skewed scores, too.

    Patients are resampled, not pixels or slices, because the pixels of one patient are not independent. At each end the
    wider of two intervals counts: the studentised bootstrap (Efron 1979; Hall 1988), which follows the skew, and
    Student's t. The percentile bootstrap, which is more common, is too narrow: for skewed scores of 10 patients it
    covers 78 to 90 % for a nominal 95 %, and this interval 92 to 98 %, but 87 % where one patient in ten fails wholly:
    a sample without such a patient does not show that they exist (simulated; partly a test). Values of only 0 and 1
    have the interval of a proportion (Wilson 1927).

    Args:
        values: [N] one number per patient; NaN (an undefined score) is left out.
        limits: lowest and highest possible score; the interval is cut there.
        resamples: number of samples drawn with replacement.
        confidence: share of such intervals that contain the true mean, in (0, 1).
        seed: seed of the random generator; the same values and seed give the same interval.

    Returns:
        The mean and its bounds, or None with fewer than three values.

    Example:
        >>> mean, low, high = bootstrap_interval([0.6, 0.7, 0.9, 0.8, float("nan")], limits=(0, 1))
        >>> print(f"{mean:.3f} [{low:.2f}, {high:.2f}]")
        0.750 [0.53, 0.97]
        >>> tuple(round(end, 3) for end in bootstrap_interval([0, 0, 0, 0, 0]))  # of five healthy patients none is hit
        (0.0, 0.0, 0.434)
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} is not between 0 and 1")
    data = np.asarray(values, dtype=np.float64).ravel()
    data = data[~np.isnan(data)]
    if data.size < LEAST:
        return None
    if np.isin(data, (0.0, 1.0)).all():
        ends = stats.binomtest(int(data.sum()), data.size).proportion_ci(confidence, method="wilson")
        return Interval(float(data.mean()), float(ends.low), float(ends.high))
    return _mean_interval(data, limits=limits, resamples=resamples, confidence=confidence, seed=seed)


def _mean_interval(
    data: NDArray[np.float64], *, limits: tuple[float, float], resamples: int, confidence: float, seed: int
) -> Interval:
    """The wider of the studentised bootstrap and Student's t at each end."""
    mean = float(data.mean())
    error = float(data.std(ddof=1)) / math.sqrt(data.size)
    student = float(stats.t.ppf((1.0 + confidence) / 2.0, data.size - 1))
    below, above = _studentized_quantiles(data, resamples=resamples, confidence=confidence, seed=seed)
    low, high = mean - max(above, student) * error, mean - min(below, -student) * error
    return Interval(mean, max(low, min(limits[0], mean)), min(high, max(limits[1], mean)))


def _studentized_quantiles(
    data: NDArray[np.float64], *, resamples: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Quantiles of the t statistic of resamples; resamples of equal values, which have none, are left out."""
    draws = np.random.default_rng(seed).integers(0, data.size, size=(resamples, data.size))
    drawn = data[draws]
    spread = drawn.std(axis=1, ddof=1)
    varied = spread > 1e-12 * np.abs(data).max()
    if not varied.any():
        return 0.0, 0.0
    t = (drawn.mean(axis=1) - data.mean())[varied] / (spread[varied] / math.sqrt(data.size))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(t, [tail, 1.0 - tail])
    return float(low), float(high)


def named_interval(
    name: str, values: Sequence[float], *, limits: tuple[float, float], resamples: int, seed: int
) -> dict[str, float]:
    """Results of one score: its mean as `<name>`, and its interval as `<name>_low` and `<name>_high`.

    Args:
        name: name of the score.
        values: one number per patient; the result is empty without any.
        limits: see `bootstrap_interval`.
        resamples: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.
    """
    if not values:
        return {}
    interval = bootstrap_interval(values, limits=limits, resamples=resamples, seed=seed)
    if interval is None:
        return {name: float(np.mean(values))}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def bootstrap_difference(
    first: Sequence[float] | ArrayLike,
    second: Sequence[float] | ArrayLike,
    *,
    limits: tuple[float, float] = EVERYTHING,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Mean of the paired differences `first - second` over patients with its interval.

    An interval that excludes 0 shows a difference between the two methods.

    Args:
        first: [N] one number per patient.
        second: [N] values of the other method, for the same patients in the same order. Patients with NaN in either are
            left out.
        limits: lowest and highest possible score, not difference.
        resamples: see `bootstrap_interval`.
        confidence: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.

    Raises:
        ValueError: the numbers of values differ.

    Example:
        >>> ours, floor = [0.8, 0.7, 0.9, 0.8], [0.5, 0.5, 0.6, 0.7]
        >>> bootstrap_difference(ours, floor).low > 0
        True
    """
    left, right = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if left.shape != right.shape:
        raise ValueError(f"{left.size} and {right.size} values; a paired difference needs the same patients in both")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} is not between 0 and 1")
    widest, gaps = limits[1] - limits[0], left - right
    gaps = gaps[~np.isnan(gaps)]
    if gaps.size < LEAST:
        return None
    # Differences of 0 and 1 are not a proportion, whose interval would leave out 0 as soon as one patient differs.
    return _mean_interval(gaps, limits=(-widest, widest), resamples=resamples, confidence=confidence, seed=seed)


def resampled_weights(groups: Sequence[str], *, resamples: int = 2000, seed: int = 0) -> NDArray[np.float64] | None:
    """Weight of each case in each bootstrap resample, when whole patients are drawn with replacement.

    For scores that are not means over patients (AUROC, kappa): they are computed again with every row of weights.

    Args:
        groups: [N] patient of each case.
        resamples: number of resamples R.
        seed: seed of the random generator.

    Returns:
        [R, N], equal for the cases of one patient; None with fewer than three patients.

    Example:
        >>> weights = resampled_weights(["p1", "p1", "p2", "p3"], resamples=100)
        >>> weights.shape, bool((weights[:, 0] == weights[:, 1]).all())
        ((100, 4), True)
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < LEAST:
        return None
    rng = np.random.default_rng(seed)
    counts = np.stack(
        [np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(resamples)]
    )
    weights: NDArray[np.float64] = counts.astype(np.float64)[:, index.ravel()]
    return weights


def percentile_bounds(values: NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Bounds of the central share of resampled values; None if more than half of them are undefined (NaN)."""
    defined = values[~np.isnan(values)]
    if 2 * defined.size < max(values.size, 1):
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return float(low), float(high)


def bca_bounds(
    values: NDArray[np.float64], estimate: float, left_out: NDArray[np.float64], *, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Bounds of a resampled score, corrected for its bias and skew (BCa; Efron 1987, section 3).

    For scores that are not means over patients (AUROC, kappa), which have no studentised interval.

    Args:
        values: [R] score of each resample; NaN is undefined.
        estimate: score of all patients.
        left_out: [P] score without each patient (jackknife); NaN is undefined.
        confidence: share of such intervals that contain the true score, in (0, 1).

    Returns:
        The bounds; None if the estimate or more than half of the resamples are undefined.
    """
    defined = values[~np.isnan(values)]
    if math.isnan(estimate) or 2 * defined.size < max(values.size, 1):
        return None
    # Ties count half; the ends keep the normal quantile finite.
    below = float((defined < estimate).mean() + (defined == estimate).mean() / 2)
    bias = float(stats.norm.ppf(np.clip(below, 0.5 / defined.size, 1 - 0.5 / defined.size)))
    known = left_out[~np.isnan(left_out)]
    gaps = known.mean() - known if known.size else np.zeros(1)
    square = float((gaps**2).sum())
    skew = float((gaps**3).sum()) / (6 * square**1.5) if square > 0 else 0.0
    tails = stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]) + bias
    # Far out the correction turns over; there the last quantile is taken.
    scale = 1 - skew * tails
    levels = np.where(
        scale > 0, stats.norm.cdf(bias + tails / np.where(scale > 0, scale, 1)), (tails > 0).astype(float)
    )
    low, high = np.quantile(defined, levels)
    return float(low), float(high)
