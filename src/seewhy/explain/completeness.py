"""Whether a map's sum is the difference that it claims to explain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["completeness_error"]

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
