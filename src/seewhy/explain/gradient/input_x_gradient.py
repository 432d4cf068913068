"""Input × gradient."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seewhy.explain.base import Attribution
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, compute_sample_gradients, sum_channels

__all__ = ["InputXGradient"]


class InputXGradient(GradientExplainer):
    """The image times the gradient of the score by it (Shrikumar 2016), counted from zero by its nature."""

    method = "input_x_gradient"
    baseline = "zero in the units of the normalised image"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        found = compute_sample_gradients(subject, targets, self.budget.gradient_rows(subject))
        return [
            Attribution(maps={name: sum_channels(gradient * subject.inputs[name]) for name, gradient in one.items()})
            for one in found
        ]
