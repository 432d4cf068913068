"""Losses of weakly-supervised segmentation: image-level classes, incomplete pixel labels, and affinities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.losses.volumes import masked_mean

__all__ = ["AffinityLoss", "BalancedCrossEntropy", "MultiLabelLoss", "affinity_loss", "balanced_cross_entropy"]


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of the presence of each class, averaged over classes and samples.

    Without `positive_weight` this is the multi-label soft-margin loss of the published method.

    Args:
        positive_weight: one factor per class on the loss of its positive samples, against imbalance.
        smoothing: targets become smoothing / 2 and 1 - smoothing / 2.

    Example:
        >>> import torch
        >>> loss = MultiLabelLoss(positive_weight=[3.0])
        >>> round(float(loss(torch.zeros(2, 1), torch.tensor([[1.0], [0.0]]))), 4)  # (3 log 2 + log 2) / 2
        1.3863
    """

    def __init__(self, *, positive_weight: Sequence[float] | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ConfigError(f"label smoothing={smoothing} must be within 0 … 1")
        self.positive_weight = None if positive_weight is None else [float(weight) for weight in positive_weight]
        self.smoothing = float(smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits [B, K] against labels [B, K] in {0, 1}, in float32."""
        logits = logits.float()
        target = label.to(logits) * (1.0 - self.smoothing) + self.smoothing / 2
        weight = None if self.positive_weight is None else logits.new_tensor(self.positive_weight)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def affinity_loss(affinity: Tensor, target: Tensor) -> Tensor:
    """Mean distance from 1 of alike pairs and from 0 of unlike pairs, in equal parts (Ru 2022, eq. 7).

    Args:
        affinity: [B, N, N] in [0, 1].
        target: [B, N, N] int, 1 alike, 0 unlike, anything else ignored.

    Returns:
        Scalar in [0, 1]; each part's count is increased by 1, so that a part without pairs is 0 and not NaN.

    Example:
        >>> import torch
        >>> float(affinity_loss(torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1, 0]]])))
        0.125
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


def balanced_cross_entropy(logits: Tensor, target: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Cross-entropy in which background and foreground pixels have half of the weight each, whatever their number.

    Args:
        logits: [B, 1 + K, h, w]; resized to the target where sizes differ.
        target: [B, H, W] int64, 0 background, 1…K foreground, `ignore_index` unknown.
        ignore_index: the label of unknown pixels.

    Returns:
        Scalar float32 ≥ 0. A part without pixels contributes exactly 0 to value and gradient, so the loss stays
        finite for a batch without foreground, without background, or without any label.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 8, 8, dtype=torch.long)
        >>> target[0, 0, 0], target[0, 4:] = 1, 255
        >>> round(float(balanced_cross_entropy(torch.zeros(1, 2, 8, 8), target)), 4)  # log 2
        0.6931
    """
    logits = logits.float()
    if logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, target, ignore_index=ignore_index, reduction="none")
    background = target == 0
    foreground = ~background & (target != ignore_index)
    return 0.5 * masked_mean(loss, background) + 0.5 * masked_mean(loss, foreground)


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
