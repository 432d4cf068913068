"""Distances between two samples of features (Fréchet, KID, MMD), and hand-made features of intensities.

In the kernel distances subjects, not slices, are the sample. Intensity features are for data without a trained network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

__all__ = [
    "FEATURES",
    "KernelTable",
    "frechet_distance",
    "gaussian_kernel",
    "intensity_features",
    "kernel_table",
    "median_width",
    "polynomial_kernel",
]


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Squared Fréchet distance |μ1 - μ2|² + tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½) (Dowson 1982; as FID: Heusel 2017, eq. 6).

    With Σ = AᵀA the last trace is the sum of the singular values of A1 A2ᵀ, which needs no matrix root and is exact
    even with fewer samples than dimensions. In that case the covariances are rank-deficient and the distance is biased
    upwards by an amount that depends on the number of samples: compare only distances of equal sample sizes.

    Args:
        first: [N, D] features, N at least 2.
        second: [K, D].

    Returns:
        At least 0, in double precision.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(100, 4))
        >>> frechet_distance(features, features) < 1e-9
        True
        >>> round(frechet_distance(features, features + 0.5), 6)
        1.0
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
    """Kernel of KID, (x·y / D + 1)³ of [N, D] and [K, D], as [N, K] (Bińkowski 2018, eq. 3)."""
    values: Array = (first @ second.T / first.shape[1] + 1) ** 3
    return values


def gaussian_kernel(first: Array, second: Array, *, width: float) -> Array:
    """Gaussian kernel exp(-|x - y|² / (2 width²)) of [N, D] and [K, D], as [N, K]."""
    values: Array = np.exp(-_squared_distances(first, second) / (2 * width**2))
    return values


def median_width(first: Array, second: Array, *, most: int = 2000, seed: int = 0) -> float:
    """Median distance between samples of both sets, the usual width of a kernel (Gretton 2012, sec. 8).

    Args:
        first: [N, D].
        second: [K, D].
        most: largest number of samples; of more, a random subset is used.
        seed: seed of the subset.
    """
    both = np.concatenate([np.asarray(first, np.float64), np.asarray(second, np.float64)])
    if len(both) > most:
        both = both[np.random.default_rng(seed).choice(len(both), most, replace=False)]
    squared = _squared_distances(both, both)[np.triu_indices(len(both), k=1)]
    return float(np.sqrt(np.median(squared))) or 1.0


@dataclass(frozen=True)
class KernelTable:
    """Means of a kernel over the slices of every pair of subjects.

    The slices of one subject are similar, so pairs within a subject would make a sample look narrower than its
    population. They are left out, which makes `distance` unbiased with the subject as the unit.

    Attributes:
        within_first: [S, S].
        within_second: [T, T].
        between: [S, T].
        shared: [S, T] bool, pairs of the same subject in both samples, e.g. scanned at both sites; left out, too. None
            if nobody is in both.
    """

    within_first: Array
    within_second: Array
    between: Array
    shared: NDArray[np.bool_] | None = None

    def distance(self, first: ArrayLike | None = None, second: ArrayLike | None = None) -> float:
        """Unbiased squared maximum mean discrepancy (Gretton 2012, eq. 3); it can be negative, and NaN for one subject.

        Args:
            first: indices of subjects to use; None for all. A subject that occurs k times, as in a bootstrap, counts
                k-fold and is never paired with itself.
            second: the same for the second sample.
        """
        left, right = (_counts(chosen, n) for chosen, n in zip((first, second), self.between.shape, strict=True))
        if not (left.any() and right.any()):
            return float("nan")
        if self.shared is None:
            mean = left @ self.between @ right / (left.sum() * right.sum())
        else:
            pairs = np.outer(left, right) * ~self.shared
            mean = (pairs * self.between).sum() / pairs.sum() if pairs.any() else np.nan
        return float(_mean_over_pairs(self.within_first, left) + _mean_over_pairs(self.within_second, right) - 2 * mean)

    def resampled(self, *, resamples: int = 500, seed: int = 0) -> Array | None:
        """`distance` of bootstrap resamples of subjects, [resamples]; None if a sample has fewer than 3 subjects.

        With the same seed, tables of the same subjects are resampled alike, so their means can be resampled as well. If
        all subjects are in both samples, both are resampled alike.
        """
        sizes = self.between.shape
        if min(sizes) < 3:
            return None
        rng = np.random.default_rng(seed)
        values = []
        for _ in range(resamples):
            first, second = (rng.integers(0, size, size) for size in sizes)
            if self.shared is not None and self.shared.sum() == max(sizes):
                second = self.shared.argmax(axis=1)[first]
            values.append(self.distance(first, second))
        return np.asarray(values)


def kernel_table(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    subjects: tuple[Sequence[str], Sequence[str]],
    width: float | None = None,
) -> KernelTable:
    """Compute the kernel between all slices of all subjects, averaged per pair of subjects.

    Args:
        first: [N, D] features.
        second: [K, D].
        subjects: subject of each sample, [N] and [K]; rows of the table follow their first occurrence.
        width: width of the Gaussian kernel; None for the polynomial kernel of KID.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> subjects = [f"s{i // 4}" for i in range(40)]
        >>> first, second, shifted = rng.normal(size=(40, 3)), rng.normal(size=(40, 3)), rng.normal(1, size=(40, 3))
        >>> same = kernel_table(first, second, subjects=(subjects, subjects)).distance()
        >>> other = kernel_table(first, shifted, subjects=(subjects, subjects)).distance()
        >>> same < 0.5 < other
        True
    """
    kernel = polynomial_kernel if width is None else partial(gaussian_kernel, width=width)
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    left, right = _averaging_weights(subjects[0]), _averaging_weights(subjects[1])
    within = left @ kernel(a, a) @ left.T, right @ kernel(b, b) @ right.T
    names = [np.asarray(list(dict.fromkeys(several))) for several in subjects]
    shared = names[0][:, None] == names[1][None]
    return KernelTable(*within, left @ kernel(a, b) @ right.T, shared if shared.any() else None)


def _averaging_weights(subjects: Sequence[str]) -> Array:
    """[S, N] weight of each sample in the mean of its subject."""
    names = list(dict.fromkeys(subjects))
    belongs = np.asarray([[owner == name for owner in subjects] for name in names], np.float64)
    return belongs / belongs.sum(axis=1, keepdims=True)


def _counts(chosen: ArrayLike | None, number: int) -> Array:
    """[number] how often each subject counts."""
    if chosen is None:
        return np.ones(number)
    return np.bincount(np.asarray(chosen, np.int64), minlength=number).astype(np.float64)


def _mean_over_pairs(table: Array, weights: Array) -> float:
    """Weighted mean over pairs of different subjects."""
    total = weights.sum() ** 2 - np.square(weights).sum()
    return float((weights @ table @ weights - np.square(weights) @ np.diag(table)) / total) if total > 0 else np.nan


def _squared_distances(first: Array, second: Array) -> Array:
    lengths = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)[None]
    return np.maximum(lengths - 2 * first @ second.T, 0)


QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SLOPES = (0.5, 0.9, 0.99)
"""Quantiles of the gradient's magnitude."""
SCALES = (0.0, 1.5)
"""Smoothing before the gradient, as standard deviations in pixels: first grain and blur, then edges of tissue."""
RIM = 2
"""Pixels inside the outline of the tissue without a gradient, which would measure the step to the background."""
FEATURES = len(QUANTILES) + len(SCALES) * len(SLOPES)


def intensity_features(image: NDArray[np.floating], body: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Quantiles of the tissue's intensities, and of their gradients at two scales, per slice and modality.

    They measure contrast, brightness, noise and sharpness, but neither shapes nor positions.

    Args:
        image: [N, M, H, W] in [-1, 1].
        body: [N, H, W] bool, tissue; each slice needs some.

    Returns:
        [N, M, `FEATURES`] float32.
    """
    inner = [_without_rim(inside) for inside in body]
    features = np.empty((*image.shape[:2], FEATURES), np.float32)
    for n, m in np.ndindex(*image.shape[:2]):
        plane = np.asarray(image[n, m], np.float32)
        values = [np.quantile(plane[body[n]], QUANTILES)]
        for scale in SCALES:
            smooth = _smooth_tissue(plane, body[n], scale) if scale else plane
            values.append(np.quantile(np.hypot(*np.gradient(smooth))[inner[n]], SLOPES))
        features[n, m] = np.concatenate(values)
    return features


def _smooth_tissue(plane: NDArray[np.float32], inside: NDArray[np.bool_], scale: float) -> NDArray[np.float32]:
    """Gaussian mean over nearby tissue, without the background."""
    values, weight = (gaussian_filter(np.asarray(given, np.float32), scale) for given in (plane * inside, inside))
    return np.asarray(values / np.maximum(weight, np.float32(1e-6)), np.float32)


def _without_rim(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The tissue without its rim, or all of it if nothing would remain."""
    inner: NDArray[np.bool_] = binary_erosion(body, iterations=RIM)
    return inner if inner.any() else body
