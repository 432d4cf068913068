"""Similarity of two maps: rank correlation and structural similarity, per sample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool1d

__all__ = [
    "average_ranks",
    "correlate_rows",
    "correlation",
    "finite_mean",
    "join_maps",
    "rank_correlation",
    "rank_rows",
    "structural_similarity",
    "subsample",
]

MOST = 2**17


def join_maps(maps: Mapping[str, Tensor]) -> Tensor:
    """Join the maps of all inputs on their common scale to [B, P], where P is the number of pixels of all inputs."""
    return torch.cat([one.flatten(1) for one in maps.values()], dim=1)


def subsample(values: Tensor) -> Tensor:
    """Select at most 131,072 of the columns of [B, P], always the same random ones.

    Ranking two million voxels takes half a second; a rank correlation of this many columns is accurate within 0.01.
    """
    if values.shape[1] <= MOST:
        return values
    chosen = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(0))[:MOST]
    return values[:, chosen.sort().values.to(values.device)]


def average_ranks(values: Tensor) -> Tensor:
    """Compute ranks [P] float64 from 1, lowest first; equal values get the mean of their ranks.

    Args:
        values: [P].

    Example:
        >>> import torch
        >>> from seewhy.explain.judging.similarity import average_ranks
        >>> average_ranks(torch.tensor([3.0, 1.0, 3.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    if values.device.type != "cpu":
        _, index, counts = torch.unique(values, return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        return (last - (counts.double() - 1) / 2)[index]
    array = values.detach().numpy()  # numpy sorts them two to four times as fast as torch
    order = np.argsort(array)
    ordered = array[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    sizes = np.diff(first, append=len(array))
    ranks = np.empty(len(array))
    ranks[order] = np.repeat(first + (sizes + 1) / 2, sizes)
    return torch.from_numpy(ranks)


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute Pearson's correlation of two vectors [P], a scalar; NaN if one of them is constant."""
    a, b = first - first.mean(), second - second.mean()
    scale = (a.square().sum() * b.square().sum()).sqrt()
    return (a * b).sum() / scale if scale > 0 else scale.new_tensor(float("nan"))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute Spearman's correlation of each row, with average ranks for ties.

    Args:
        first: [B, P].
        second: [B, P].

    Returns:
        [B] float64 in [-1, 1]; NaN if one of the rows is constant.

    Example:
        >>> import torch
        >>> from seewhy.explain import rank_correlation
        >>> rank_correlation(torch.tensor([[1.0, 2.0, 30.0]]), torch.tensor([[0.1, 0.2, 0.3]]))
        tensor([1.], dtype=torch.float64)
    """
    return correlate_rows(rank_rows(first), rank_rows(second))


def rank_rows(values: Tensor) -> Tensor:
    """Rank each row of [B, P] by `average_ranks`, float64."""
    return torch.stack([average_ranks(row) for row in values])


def correlate_rows(first: Tensor, second: Tensor) -> Tensor:
    """Compute Pearson's correlation of each row of [B, P], [B]; NaN if one of the rows is constant."""
    return torch.stack([correlation(a, b) for a, b in zip(first, second, strict=True)])


def structural_similarity(first: Mapping[str, Tensor], second: Mapping[str, Tensor], *, window: int = 7) -> Tensor:
    """Compute the SSIM of non-negative maps (Wang 2004, equation 13), each sample scaled by its highest value.

    All inputs of a sample share one scale. The windows are uniform; inputs are weighted by their number of windows.

    Args:
        first: input → [B, H, W] or [B, D, H, W], non-negative.
        second: the same inputs and shapes.
        window: side of the windows in pixels, limited to the length of each axis.

    Returns:
        [B] float64 in [-1, 1]; 1 for two empty maps.
    """
    total: Tensor | float = 0.0
    count = 0
    for a, b in zip(_scale_to_one(first), _scale_to_one(second), strict=True):
        similarity = _local_similarity(a, b, window).flatten(1)
        total, count = total + similarity.sum(dim=1), count + similarity.shape[1]
    return total / count  # type: ignore[return-value]


def _scale_to_one(maps: Mapping[str, Tensor]) -> list[Tensor]:
    highest = join_maps(maps).amax(dim=1).double().clamp_min(1e-300)
    return [one.double() / highest.reshape(-1, *[1] * (one.ndim - 1)) for one in maps.values()]


def _local_similarity(first: Tensor, second: Tensor, window: int) -> Tensor:
    """Compute the SSIM of every window, [B, *s], with the constants 0.01² and 0.03² for a range of 1."""

    def mean(x: Tensor) -> Tensor:
        for axis in range(1, x.ndim):
            # One axis at a time: 3 x 7 instead of 7^3 terms.
            rows = x.movedim(axis, -1)
            rows = avg_pool1d(rows.flatten(0, -2), min(window, rows.shape[-1]), stride=1).unflatten(0, rows.shape[:-1])
            x = rows.movedim(-1, axis)
        return x

    mean_a, mean_b = mean(first), mean(second)
    var_a, var_b = mean(first * first) - mean_a**2, mean(second * second) - mean_b**2
    covariance = mean(first * second) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a.clamp_min(0) + var_b.clamp_min(0) + c2)
    )


def finite_mean(values: NDArray[np.floating]) -> float:
    """Return the mean of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
