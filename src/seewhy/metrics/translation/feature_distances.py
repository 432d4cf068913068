"""Kernel distances between two samples of features, with subjects, not slices, as what was sampled.

Fréchet distance between two samples of features, each taken as a normal distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KernelTable", "frechet_distance", "gaussian_kernel", "kernel_table", "median_width", "polynomial_kernel"]


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Squared Fréchet distance |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½) (Dowson 1982; as FID: Heusel 2017, eq. 6).

    With Σ = AᵀA the last trace is the sum of the singular values of A1 A2ᵀ, which needs no root of a matrix and is
    exact where there are fewer samples than dimensions. There the covariances have no full rank and the distance is
    biased upwards by an amount that depends on the number of samples: compare only distances of equal numbers.

    Args:
        first: [N, D] features, N at least 2.
        second: [K, D].

    Returns:
        A number of 0 or more, in double precision.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(f"features {first.shape} and {second.shape}: expected [N, D] and [K, D] with N, K >= 2")
    (mean1, root1), (mean2, root2) = _moments(first), _moments(second)
    overlap = np.linalg.svd(root1 @ root2.T, compute_uv=False).sum()
    spread = np.square(root1).sum() + np.square(root2).sum() - 2 * overlap
    return float(max(np.square(mean1 - mean2).sum() + spread, 0.0))


def _moments(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [D], and A [min(N, D), D] with covariance AᵀA."""
    values = np.asarray(features, np.float64)
    mean = values.mean(axis=0)
    root = (values - mean) / np.sqrt(len(values) - 1)
    return mean, root if len(root) <= root.shape[1] else np.asarray(np.linalg.qr(root, mode="r"))


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
