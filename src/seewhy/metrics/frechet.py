"""Fréchet distance between two samples of features, each taken as a normal distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["frechet_distance"]


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
