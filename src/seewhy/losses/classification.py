"""The loss of image-level class scores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from seewhy.errors import ConfigError

__all__ = ["MultiLabelLoss"]


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of each class against its absence, averaged over classes and samples.

    Without `positive_weight` this is the multi-label soft-margin loss of the published method.

    Args:
        positive_weight: one factor per class on the loss of its positive samples, against imbalance.
        smoothing: targets become smoothing / 2 and 1 - smoothing / 2.
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
