"""Kernel distances between two samples of features, with subjects, not slices, as what was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KernelTable", "gaussian_kernel", "kernel_table", "median_width", "polynomial_kernel"]

Array = NDArray[np.float64]


def polynomial_kernel(first: Array, second: Array) -> Array:
    """(x·y / D + 1)³ of [N, D] and [K, D], as [N, K]: the kernel of KID (Bińkowski 2018, eq. 3)."""
    values: Array = (first @ second.T / first.shape[1] + 1) ** 3
    return values


def gaussian_kernel(first: Array, second: Array, *, width: float) -> Array:
    """exp(-|x - y|² / (2 width²)) of [N, D] and [K, D], as [N, K]."""
    values: Array = np.exp(-_squared_distances(first, second) / (2 * width**2))
    return values


def median_width(first: Array, second: Array, *, most: int = 2000, seed: int = 0) -> float:
    """Median distance between different samples of both together, a kernel's usual width (Gretton 2012, sec. 8).

    Args:
        first: [N, D].
        second: [K, D].
        most: samples looked at; of more a random choice is taken.
        seed: of that choice.
    """
    both = np.concatenate([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    if len(both) > most:
        both = both[np.random.default_rng(seed).choice(len(both), most, replace=False)]
    squared = _squared_distances(both, both)[np.triu_indices(len(both), k=1)]
    return float(np.sqrt(np.median(squared))) or 1.0


@dataclass(frozen=True)
class KernelTable:
    """Means of a kernel over the slices of every pair of subjects.

    Slices of one subject are much alike, so pairs within a subject would make a sample look narrower than what it was
    drawn from. They are left out, which makes `distance` unbiased with the subject as the unit.

    Attributes:
        within_first: [S, S].
        within_second: [T, T].
        between: [S, T].
    """

    within_first: Array
    within_second: Array
    between: Array

    def distance(self, first: ArrayLike | None = None, second: ArrayLike | None = None) -> float:
        """Unbiased squared maximum mean discrepancy (Gretton 2012, eq. 3); it can be below 0, and NaN for one subject.

        Args:
            first: subjects to use; None is all. One that is named k times counts k-fold, as a bootstrap draws it, and
                is never paired with itself.
            second: the same of the second sample.
        """
        one, other = (_counts(chosen, n) for chosen, n in zip((first, second), self.between.shape, strict=True))
        if not (one.any() and other.any()):
            return float("nan")
        mean = one @ self.between @ other / (one.sum() * other.sum())
        return float(_pairs(self.within_first, one) + _pairs(self.within_second, other) - 2 * mean)

    def resampled(self, *, resamples: int = 500, seed: int = 0) -> Array | None:
        """`distance` of subjects drawn again and again, [resamples]; None with fewer than 3 of either sample.

        With the same seed tables of the same subjects draw the same ones, so that means over tables are resampled too.
        """
        sizes = self.between.shape
        if min(sizes) < 3:
            return None
        rng = np.random.default_rng(seed)
        values = []
        for _ in range(resamples):
            one, other = (rng.integers(0, size, size) for size in sizes)
            values.append(self.distance(one, other))
        return np.asarray(values)


def kernel_table(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    subjects: tuple[Sequence[str], Sequence[str]],
    width: float | None = None,
) -> KernelTable:
    """Compare all slices of all subjects.

    Args:
        first: [N, D] features.
        second: [K, D].
        subjects: whose each sample is, [N] and [K]; subjects are in the order of their first sample.
        width: of the Gaussian kernel; None takes KID's polynomial kernel.
    """
    kernel = polynomial_kernel if width is None else partial(gaussian_kernel, width=width)
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    left, right = _shares(subjects[0]), _shares(subjects[1])
    return KernelTable(
        left @ kernel(one, one) @ left.T, right @ kernel(other, other) @ right.T, left @ kernel(one, other) @ right.T
    )


def _shares(subjects: Sequence[str]) -> Array:
    """[S, N] weight of each sample in its subject's mean."""
    names = list(dict.fromkeys(subjects))
    belongs = np.asarray([[owner == name for owner in subjects] for name in names], np.float64)
    return belongs / belongs.sum(axis=1, keepdims=True)


def _counts(chosen: ArrayLike | None, number: int) -> Array:
    """How often each subject counts."""
    if chosen is None:
        return np.ones(number)
    return np.bincount(np.asarray(chosen, np.int64), minlength=number).astype(np.float64)


def _pairs(table: Array, weights: Array) -> float:
    """Mean over pairs of different subjects."""
    total = weights.sum() ** 2 - np.square(weights).sum()
    return float((weights @ table @ weights - np.square(weights) @ np.diag(table)) / total) if total > 0 else np.nan


def _squared_distances(first: Array, second: Array) -> Array:
    lengths = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)[None]
    return np.maximum(lengths - 2 * first @ second.T, 0)
