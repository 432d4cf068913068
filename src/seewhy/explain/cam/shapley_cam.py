"""ShapleyCAM: channels weighted by a second-order estimate of their Shapley values."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.explain.cam.base import ActivationMap, weighted_sum
from seewhy.explain.capture.layers import Capture
from seewhy.explain.explained_model import ExplainedModel

__all__ = ["ShapleyCAM"]


class ShapleyCAM(ActivationMap):
    """Channels weighted by the mean of G − ½ H A, gradient and Hessian of the score (Cai 2025, arXiv 2501.06261).

    If the score is a quadratic function of the activations, A · (G − ½ H A) are exact Shapley values of the activations
    against zero. Where the score is piecewise linear in them, as after a mean and one linear layer, H is 0, and the
    map is that of Grad-CAM. Layers whose second derivative PyTorch does not define raise an error.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradCAM, ShapleyCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> image = torch.rand(1, 1, 4, 4)
        >>> torch.equal(ShapleyCAM(layers="1")(net, image).maps["image"], GradCAM(layers="1")(net, image).maps["image"])
        True
    """

    method = "shapley_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c mean(G_c − ½ (H A)_c) A_c; `gradient` is G − ½ H A already."""
        return weighted_sum(activation, gradient.flatten(2).mean(dim=2))

    def _compute_gradients(
        self, subject: ExplainedModel, captured: Capture, target: Tensor, *, last: bool
    ) -> dict[str, Tensor]:
        """Compute G − ½ H A of each input."""
        score = self.score(subject, captured.scores, target)
        first = captured.gradients(score, last=False, differentiable=True)
        activations = list(captured.activations.values())
        along = [
            (gradient * activation.detach()).sum()
            for gradient, activation in zip(first.values(), activations, strict=True)
            if gradient.requires_grad
        ]
        # Without a graph the score is linear in the activations, and its second derivative is zero.
        second = (
            torch.autograd.grad(torch.stack(along).sum(), activations, retain_graph=not last, allow_unused=True)
            if along
            else [None] * len(activations)
        )
        corrected = {
            name: gradient.detach() - 0 if product is None else gradient.detach() - product / 2
            for (name, gradient), product in zip(first.items(), second, strict=True)
        }
        return self._to_grids(subject, corrected)
