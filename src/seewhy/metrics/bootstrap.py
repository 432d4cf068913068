"""Percentile bootstrap over patients: intervals of means, of paired differences and of weighted scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Interval",
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


def bootstrap_interval(
    values: Sequence[float] | ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Mean of one value per patient with its percentile bootstrap interval (Efron 1979).

    Patients are resampled, not pixels or slices, because the pixels of one patient are not independent.

    Args:
        values: [N] one number per patient; NaN (an undefined score) is left out.
        resamples: number of samples drawn with replacement.
        confidence: share of the resampled means inside the interval, in (0, 1).
        seed: seed of the random generator; the same values and seed give the same interval.

    Returns:
        The mean and its bounds, or None with fewer than three values.

    Example:
        >>> mean, low, high = bootstrap_interval([0.6, 0.7, 0.9, float("nan")])
        >>> print(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        0.733 [0.600, 0.900]
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} is not between 0 and 1")
    data = np.asarray(values, dtype=np.float64).ravel()
    data = data[~np.isnan(data)]
    if data.size < LEAST:
        return None
    draws = np.random.default_rng(seed).integers(0, data.size, size=(resamples, data.size))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(data[draws].mean(axis=1), [tail, 1.0 - tail])
    return Interval(float(data.mean()), float(low), float(high))


def named_interval(name: str, values: Sequence[float], *, resamples: int, seed: int) -> dict[str, float]:
    """Results of one score: its mean as `<name>`, and its interval as `<name>_low` and `<name>_high`.

    Args:
        name: name of the score.
        values: one number per patient; the result is empty without any.
        resamples: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.
    """
    if not values:
        return {}
    interval = bootstrap_interval(values, resamples=resamples, seed=seed)
    if interval is None:
        return {name: float(np.mean(values))}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def bootstrap_difference(
    first: Sequence[float] | ArrayLike,
    second: Sequence[float] | ArrayLike,
    *,
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
    return bootstrap_interval(left - right, resamples=resamples, confidence=confidence, seed=seed)


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
