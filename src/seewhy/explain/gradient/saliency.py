"""Saliency."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seewhy.explain.base import Attribution
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, compute_sample_gradients, sum_channels

__all__ = ["Saliency"]


class Saliency(GradientExplainer):
    """Gradient of the score by the image; its strength is the largest magnitude over channels (Simonyan 2014, §3.1)."""

    method = "saliency"
    reading = "magnitude"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        found = compute_sample_gradients(subject, targets, self.budget.gradient_rows(subject))
        return [
            Attribution(
                maps={name: sum_channels(gradient) for name, gradient in one.items()},
                strength={name: gradient.float().abs().amax(dim=1) for name, gradient in one.items()},
            )
            for one in found
        ]
