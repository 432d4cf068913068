"""The loss of affinities against labels of token pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AffinityLoss", "affinity_loss"]


def affinity_loss(affinity: Tensor, target: Tensor) -> Tensor:
    """Mean distance from 1 of alike pairs and from 0 of unlike pairs, in equal parts (Ru 2022, eq. 7).

    Args:
        affinity: [B, N, N] in [0, 1].
        target: [B, N, N] int, 1 alike, 0 unlike, anything else ignored.

    Returns:
        Scalar in [0, 1]; each part's count is raised by 1, so a part without pairs is 0 and not NaN.
    """
    alike, unlike = target == 1, target == 0
    missed = torch.where(alike, 1.0 - affinity, 0.0).sum() / (alike.sum() + 1)
    false = torch.where(unlike, affinity, 0.0).sum() / (unlike.sum() + 1)
    return 0.5 * missed + 0.5 * false


class AffinityLoss(nn.Module):
    """`affinity_loss` of logits [B, N, N], computed in float32."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        return affinity_loss(torch.sigmoid(logits.float()), target)
