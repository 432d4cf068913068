"""Whether attributions add up to the score they explain."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.maps import Maps

__all__ = ["LIMIT", "incomplete"]

LIMIT = 0.05
"""Relative error above which a map of a method that promises completeness is marked."""


def incomplete(maps: Maps, *, limit: float = LIMIT) -> Tensor | None:
    """Samples whose map misses the difference of scores by more than `limit` (Sundararajan 2017, proposition 1).

    Returns:
        [B] bool, true also where the error is not a number; None for methods that promise no equality.
    """
    return None if maps.completeness is None else ~(maps.completeness <= limit)
