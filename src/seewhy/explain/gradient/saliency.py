"""Maps from the gradient of the score with respect to the image: saliency, and gradient times input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from seewhy.explain.base import Attribution
from seewhy.explain.explained_model import ExplainedModel
from seewhy.explain.gradient.base import GradientExplainer, compute_sample_gradients, sum_channels

__all__ = ["InputXGradient", "Saliency"]


class Saliency(GradientExplainer):
    """Gradient of the score by the image; evidence is its largest magnitude over channels (Simonyan 2014, §3.1).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import Saliency
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> maps = Saliency()(net, torch.rand(1, 1, 2, 2), target=1)
        >>> torch.equal(maps.maps["image"].flatten(), net[1].weight[1])
        True
        >>> torch.equal(maps.evidence()["image"], maps.maps["image"].abs())
        True
    """

    method = "saliency"
    reading = "magnitude"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        results = compute_sample_gradients(subject, targets, self.budget.gradient_rows(subject))
        return [
            Attribution(
                maps={name: sum_channels(gradient) for name, gradient in gradients.items()},
                strength={name: gradient.float().abs().amax(dim=1) for name, gradient in gradients.items()},
            )
            for gradients in results
        ]


class InputXGradient(GradientExplainer):
    """Image times the gradient of the score by the image (Shrikumar 2016); its baseline is always zero.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import InputXGradient
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> maps = InputXGradient()(net, torch.rand(3, 1, 2, 2), target=1)
        >>> torch.allclose(maps.maps["image"].sum(dim=(1, 2)) + net[1].bias[1], maps.scores[:, 1])
        True
    """

    method = "input_x_gradient"
    baseline = "zero in the units of the normalised image"

    def attributions(self, subject: ExplainedModel, targets: Sequence[Tensor], scores: Tensor) -> list[Attribution]:
        """See `GradientExplainer.attributions`."""
        results = compute_sample_gradients(subject, targets, self.budget.gradient_rows(subject))
        return [
            Attribution(
                maps={name: sum_channels(gradient * subject.inputs[name]) for name, gradient in gradients.items()}
            )
            for gradients in results
        ]
