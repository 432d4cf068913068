"""Whether a map's sum is the difference that it claims to explain.

Whether attributions add up to the score they explain.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seewhy.explain.maps import Maps

__all__ = ["LIMIT", "completeness_error", "incomplete"]

NOISE = 1e-4  # relative to the scores; a smaller difference is rounding in float32, not something to be explained


def completeness_error(maps: Mapping[str, Tensor], score: Tensor, reference: Tensor) -> Tensor:
    """|Σ map − (f(x) − f(x0))| / |f(x) − f(x0)| of each sample (Sundararajan 2017, proposition 1).

    Args:
        maps: input → [B, *spatial]; the sum is over all inputs.
        score: [B] f(x).
        reference: [B] f(x0).
    """
    difference = (score - reference).double()
    total = torch.stack([one.flatten(1).double().sum(dim=1) for one in maps.values()]).sum(dim=0)
    floor = NOISE * (score.abs() + reference.abs()).double() + 1e-12
    return ((total - difference).abs() / torch.maximum(difference.abs(), floor)).float()


LIMIT = 0.05
"""Relative error above which a map of a method that promises completeness is marked."""


def incomplete(maps: Maps, *, limit: float = LIMIT) -> Tensor | None:
    """Samples whose map misses the difference of scores by more than `limit` (Sundararajan 2017, proposition 1).

    Returns:
        [B] bool, true also where the error is not a number; None for methods that promise no equality.
    """
    return None if maps.completeness is None else ~(maps.completeness <= limit)
