"""Grad-CAM++: channels weighted by their positive gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from seewhy.errors import ConfigError
from seewhy.explain.cam.base import ActivationMap, Reshape, weighted_sum
from seewhy.explain.capture.layers import Layers
from seewhy.option_types import PositiveFloat

__all__ = ["GradCAMPlusPlus"]


class GradCAMPlusPlus(ActivationMap):
    """Channels weighted by their positive gradients, positions by higher derivatives (Chattopadhay 2018).

    The weight of a channel is Σ α relu(G), α = G² ÷ (2 G² + ΣA · G³) (equations 7 and 19, with the exponential of the
    score as the smooth function; the exponential itself only scales the whole map and is omitted). The paper assumes
    non-negative activations.

    Args:
        layers: see `seewhy.explain.capture.layers.Layers`.
        reshape: see `ActivationMap`.
        eps: added to the denominator of α; 1e-6 as in the grad-cam package. It matters if gradients are below about
            1e-3, e.g. before a mean over a large grid; 0 is the formula of the paper, as 1 ÷ (2 + ΣA · G).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradCAMPlusPlus
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> GradCAMPlusPlus(layers="1")(net, torch.rand(2, 1, 4, 4), target=[0, 1]).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "grad_cam_plus_plus"

    def __init__(self, *, layers: Layers = None, reshape: Reshape | None = None, eps: PositiveFloat = 1e-6) -> None:
        super().__init__(layers=layers, reshape=reshape)
        if eps < 0:
            raise ConfigError(f"grad_cam_plus_plus: eps={eps}; expected at least 0")
        self.eps = eps

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c (Σ α_c relu(G_c)) A_c."""
        sums = activation.flatten(2).sum(dim=2).reshape(*activation.shape[:2], *[1] * (activation.ndim - 2))
        positive = gradient.relu()
        if self.eps:
            alpha = gradient**2 / (2 * gradient**2 + sums * gradient**3 + self.eps)
        else:
            alpha = torch.where(positive > 0, 1 / (2 + sums * positive), 0)
        return weighted_sum(activation, (alpha * positive).flatten(2).sum(dim=2))
