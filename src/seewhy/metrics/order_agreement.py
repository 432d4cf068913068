"""Agreement of two orders of methods over several settings: Spearman's rank correlation with a bootstrap interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from seewhy.metrics.bootstrap import percentile_bounds

__all__ = ["OrderAgreement", "average_ranks_of", "compare_orders", "correlate_ranks"]

Array = NDArray[np.float64]
FEWEST = 3
"""Fewest items for a correlation."""


@dataclass(frozen=True)
class OrderAgreement:
    """Agreement of two orders.

    Attributes:
        value: Spearman's correlation of the pooled orders, from -1 to 1; NaN with fewer than three items.
        low: lower bound of the 95 % interval; NaN without one.
        high: upper bound.
        single: mean correlation within a single member, without pooling.
        members: number of members.
    """

    value: float
    low: float
    high: float
    single: float
    members: int


def correlate_ranks(first: Array, second: Array) -> float:
    """Compute Spearman's rank correlation over the entries that are finite in both; ties share a rank.

    Returns:
        From -1 to 1; NaN with fewer than three such entries, or if all values of one are equal.

    Example:
        >>> correlate_ranks(np.array([1.0, 2.0, 5.0]), np.array([0.3, 0.2, 0.1]))
        -1.0
    """
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < FEWEST:
        return math.nan
    a, b = (rankdata(values[known]) for values in (first, second))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan


def average_ranks_of(scores: Array) -> Array:
    """Average the ranks of items over members, as shares: 0 is always last, 1 always first.

    Args:
        scores: [members, items], higher is better; NaN where a member lacks an item.

    Returns:
        [items]; NaN for an item that no member has.

    Example:
        >>> average_ranks_of(np.array([[0.1, 0.2, 0.9], [0.5, 0.7, np.nan]])).tolist()
        [0.0, 0.75, 1.0]
    """
    ranks = np.full(scores.shape, np.nan)
    for line, row in zip(ranks, scores, strict=True):
        known = np.isfinite(row)
        if known.sum() > 1:
            line[known] = (rankdata(row[known]) - 1) / (known.sum() - 1)
    counts = np.isfinite(ranks).sum(axis=0)
    means = np.round(np.nansum(ranks, axis=0) / np.maximum(counts, 1), 9)  # equal sums in another order stay ties
    return np.where(counts > 0, means, np.nan)


def compare_orders(
    scores: Array,
    truth: Array,
    groups: Sequence[Hashable],
    *,
    pool: Callable[[Array], Array] = average_ranks_of,
    resamples: int = 2000,
    seed: int = 0,
) -> OrderAgreement:
    """Compare the order of items by a score with their order by the truth, pooled over members.

    Members of one group (the seeds of a phantom) are not independent, so groups are resampled first and then the
    members within each, with replacement; the interval is that of the percentiles.

    Args:
        scores: [members, items], higher is better; NaN where a member lacks an item.
        truth: [members, items], likewise.
        groups: [members] group of each member.
        pool: makes the pooled score [items] of members.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: the numbers of members differ.

    Example:
        >>> truth = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4]])
        >>> found = compare_orders(truth * 2, truth, ["a", "b"])
        >>> found.value, found.low, found.members
        (1.0, 1.0, 2)
    """
    if not len(groups) == len(scores) == len(truth):
        raise ValueError(f"{len(scores)} members with scores, {len(truth)} with the truth, {len(groups)} groups")
    rows = {name: [i for i, group in enumerate(groups) if group == name] for name in dict.fromkeys(groups)}

    def correlate(chosen: Sequence[int]) -> float:
        return correlate_ranks(pool(scores[list(chosen)]), pool(truth[list(chosen)]))

    single = [correlate_ranks(a, b) for a, b in zip(scores, truth, strict=True)]
    finite = [value for value in single if math.isfinite(value)]
    rng, names = np.random.default_rng(seed), list(rows)
    drawn = []
    for _ in range(resamples if len(groups) > 1 else 0):
        picked = [rows[names[i]] for i in rng.integers(0, len(names), len(names))]
        drawn.append(correlate([own[i] for own in picked for i in rng.integers(0, len(own), len(own))]))
    low, high = percentile_bounds(np.array(drawn)) or (math.nan, math.nan)
    mean = float(np.mean(finite)) if finite else math.nan
    return OrderAgreement(correlate(range(len(groups))), low, high, mean, len(groups))
