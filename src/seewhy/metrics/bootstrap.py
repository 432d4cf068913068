"""Percentile bootstrap: how far a mean over patients could have come out otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "bootstrap_difference", "bootstrap_interval", "percentile_bounds", "resampled_weights"]

LEAST = 3
"""Fewest values that get an interval: two patients resampled give three means, which bound nothing."""


class Interval(NamedTuple):
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | ArrayLike, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Mean of `values` with its percentile bootstrap interval (Efron 1979), one value per patient.

    Patients, not pixels or slices, are what is drawn again: pixels of one patient are not independent.

    Args:
        values: [N] one number per patient; NaN (a score that a patient does not have) is left out.
        resamples: number of data sets drawn with replacement.
        confidence: share of the resampled means inside the interval, in (0, 1).
        seed: of a generator of its own, so that the same values always give the same interval.

    Returns:
        The mean and its bounds, or None with fewer than three values.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} is not between 0 and 1")
    known = np.asarray(values, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    if known.size < LEAST:
        return None
    draws = np.random.default_rng(seed).integers(0, known.size, size=(resamples, known.size))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(known[draws].mean(axis=1), [tail, 1.0 - tail])
    return Interval(float(known.mean()), float(low), float(high))


def bootstrap_difference(
    first: Sequence[float] | ArrayLike,
    second: Sequence[float] | ArrayLike,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Mean of `first - second` patient by patient, with its interval; it excludes 0 where the two differ.

    Args:
        first: [N] one number per patient.
        second: [N] the other method on the same patients in the same order. A patient that lacks either value
            (NaN) is left out of both.
        resamples: see `bootstrap_interval`.
        confidence: see `bootstrap_interval`.
        seed: see `bootstrap_interval`.

    Raises:
        ValueError: the two do not have one value per patient each.
    """
    one, other = (np.asarray(values, dtype=np.float64).ravel() for values in (first, second))
    if one.shape != other.shape:
        raise ValueError(f"{one.size} against {other.size} values; a paired difference needs the same patients")
    return bootstrap_interval(one - other, resamples=resamples, confidence=confidence, seed=seed)


def resampled_weights(groups: Sequence[str], *, resamples: int = 2000, seed: int = 0) -> NDArray[np.float64] | None:
    """How often each case counts in each resample, when whole patients are drawn with replacement.

    For scores that are no means over patients (AUROC, kappa): they are computed again under every row.

    Args:
        groups: [N] the patient of each case.
        resamples: R, number of data sets drawn.
        seed: of a generator of its own.

    Returns:
        [R, N], cases of one patient alike; None with fewer than three patients.
    """
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < LEAST:
        return None
    rng = np.random.default_rng(seed)
    counts = np.stack(
        [np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)) for _ in range(resamples)]
    )
    weights: NDArray[np.float64] = counts.astype(np.float64)[:, place.ravel()]
    return weights


def percentile_bounds(values: NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Bounds of the middle share of resampled values; None where most resamples do not define the value."""
    known = values[~np.isnan(values)]
    if 2 * known.size < max(values.size, 1):
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)
