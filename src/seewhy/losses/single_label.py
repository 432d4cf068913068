"""Losses of one class per case, where the order of the classes means nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from seewhy.errors import ConfigError
from seewhy.losses.weights import ClassWeights

__all__ = ["BinaryLoss", "CrossEntropy", "FocalLoss"]


class CrossEntropy(ClassWeights):
    """Cross-entropy of softmax scores.

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, smoothing: float = 0.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        self.smoothing = _share("smoothing", smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        losses = F.cross_entropy(logits.float(), label, label_smoothing=self.smoothing, reduction="none")
        return self.mean(losses, label)


class FocalLoss(ClassWeights):
    """Cross-entropy in which cases count the less the better they are told: -(1 - p)^γ log p (Lin 2017, eq. 4).

    Args:
        num_classes: K.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        gamma: γ ≥ 0; 0 is plain cross-entropy.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, gamma: float = 2.0
    ) -> None:
        super().__init__(num_classes, class_weights)
        if gamma < 0:
            raise ConfigError(f"model.loss.gamma={gamma} must be 0 or more")
        self.gamma = float(gamma)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of scores [B, K] against class indices [B] int64, in float32."""
        log_p = logits.float().log_softmax(dim=1).gather(1, label[:, None])[:, 0]
        # log p is 0 for p = 1, where a power below 1 would have no finite slope; -expm1 is exact near it.
        other = (-torch.expm1(log_p)).clamp(min=torch.finfo(torch.float32).tiny)
        return self.mean(-(other**self.gamma) * log_p, label)


class BinaryLoss(ClassWeights):
    """Binary cross-entropy of one logit for two classes.

    Args:
        num_classes: must be 2.
        class_weights: null, a factor per class, or `balanced` (see `ClassWeights`).
        smoothing: share of the target that is spread over both classes.
    """

    def __init__(
        self, *, num_classes: int, class_weights: str | Sequence[float] | None = None, smoothing: float = 0.0
    ) -> None:
        if num_classes != 2:
            raise ConfigError(
                f"model.loss.name=binary tells 2 classes apart with one logit, and there are {num_classes}; "
                "choose cross_entropy"
            )
        super().__init__(num_classes, class_weights)
        self.smoothing = _share("smoothing", smoothing)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Scalar loss of logits [B, 1] against classes [B] int64 in {0, 1}, in float32."""
        logits = logits.float()[:, 0]
        target = label.to(logits) * (1.0 - self.smoothing) + self.smoothing / 2
        return self.mean(F.binary_cross_entropy_with_logits(logits, target, reduction="none"), label)


def _share(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"model.loss.{name}={value} must be within 0 … 1")
    return float(value)
