"""Grad-CAM++."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import ActivationMap, Reshape, weighted_sum
from seewhy.explain.capture.layers import Layers

__all__ = ["GradCAMPlusPlus"]


class GradCAMPlusPlus(ActivationMap):
    """Channels weighted by their positive gradients, places by higher derivatives (Chattopadhay 2018).

    The weight of a channel is Σ α relu(G), α = G² ÷ (2 G² + ΣA · G³) (equations 7 and 19, which take the
    exponential of the score for its smooth function; the exponential itself is a factor of the whole map and is left
    out). The paper assumes activations that are not negative.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        eps: added to the denominator of α; 1e-6 is what the grad-cam package adds. It is not negligible where
            gradients are below about 1e-3, as behind a mean over a large grid; 0 gives the paper's formula, as
            1 ÷ (2 + ΣA · G).
    """

    method = "grad_cam_plus_plus"

    def __init__(self, *, layers: Layers = None, reshape: Reshape | None = None, eps: float = 1e-6) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if eps < 0:
            raise ConfigError(f"grad_cam_plus_plus: eps={eps} must not be negative")
        self.eps = eps

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Σ_c (Σ α_c relu(G_c)) A_c."""
        sums = activation.flatten(2).sum(dim=2).reshape(*activation.shape[:2], *[1] * (activation.ndim - 2))
        positive = gradient.relu()
        if self.eps:
            alpha = gradient**2 / (2 * gradient**2 + sums * gradient**3 + self.eps)
        else:
            alpha = torch.where(positive > 0, 1 / (2 + sums * positive), 0)
        return weighted_sum(activation, (alpha * positive).flatten(2).sum(dim=2))
