"""Losses of ordered classes: to be two grades off costs more than to be one off.

Both keep one softmax score per class, so that predictions, calibration and explanations are those of any other
classifier. (Losses that change what the scores mean, such as CORN, Shi 2023, whose K - 1 outputs are conditional
probabilities of passing each grade, would leave an explainer without a score of the class.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.losses.weights import ClassWeights

__all__ = ["EarthMoverLoss", "SoftOrdinalLoss"]


class EarthMoverLoss(ClassWeights):
    """Squared earth mover's distance between predicted and true distribution over grades (Hou 2016).

    The sum over grades of (CDF of the prediction - CDF of the truth)². By itself it has small gradients where the
    prediction is far off and certain, so some cross-entropy may be added (XEMD² there).

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        cross_entropy: factor on the cross-entropy that is added; 0 adds none.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, cross_entropy: float = 0.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        if cross_entropy < 0:
            raise ConfigError(f"model.loss.cross_entropy={cross_entropy} must be 0 or more")
        self.cross_entropy = float(cross_entropy)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        logits = logits.float()
        truth = F.one_hot(label, logits.shape[1]).to(logits)
        losses = (logits.softmax(dim=1) - truth).cumsum(dim=1).square().sum(dim=1)
        if self.cross_entropy:
            losses = losses + self.cross_entropy * F.cross_entropy(logits, label, reduction="none")
        return self.mean(losses, label)


class SoftOrdinalLoss(ClassWeights):
    """Cross-entropy against targets that fall off with the distance in grades (SORD, Díaz 2019).

    The target of grade k for a case of grade t is the softmax over k of -|k - t| / width.

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        width: grades over which a target falls off; towards 0 it is plain cross-entropy.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, width: float = 0.5
    ) -> None:
        super().__init__(num_classes, class_weights)
        if width <= 0:
            raise ConfigError(f"model.loss.width={width} must be above 0")
        self.width = float(width)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        logits = logits.float()
        grades = torch.arange(logits.shape[1], device=logits.device)
        target = (-(grades[None] - label[:, None]).abs().to(logits) / self.width).softmax(dim=1)
        return self.mean(-(target * logits.log_softmax(dim=1)).sum(dim=1), label)
