"""The loss of a segmentation head against incomplete pixel labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["BalancedCrossEntropy", "balanced_cross_entropy"]


def balanced_cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Cross-entropy with background and foreground pixels weighing half each, however many there are.

    Args:
        logits: [B, 1 + K, h, w]; brought to the target's size where it differs.
        target: [B, H, W] int64, 0 background, 1…K foreground, `ignore_index` unknown.
        ignore_index: the label of unknown pixels.

    Returns:
        Scalar float32 ≥ 0. A part without pixels contributes exactly 0 to value and gradient, so the loss stays
        finite for a batch without foreground, without background, or without any label.
    """
    logits = logits.float()
    if logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    background = target == 0
    foreground = ~background & (target != ignore_index)
    return 0.5 * _masked_mean(loss, background) + 0.5 * _masked_mean(loss, foreground)


def _masked_mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp_min(1)


class BalancedCrossEntropy(nn.Module):
    """`balanced_cross_entropy` as a module.

    Args:
        ignore_index: the label of unknown pixels.
    """

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss."""
        return balanced_cross_entropy(logits, target, ignore_index=self.ignore_index)
