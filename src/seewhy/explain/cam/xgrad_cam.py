"""XGrad-CAM: channels weighted by the activation-weighted mean of their gradients."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap, weighted_sum

__all__ = ["XGradCAM"]

SMALL = 1e-7
"""Keeps the division by the sum of an inactive channel finite."""


class XGradCAM(ActivationMap):
    """Channels weighted by the activation-weighted mean of their gradients (Fu 2020, arXiv 2008.02312).

    The paper assumes activations of one sign (after a ReLU). If a channel's activations cancel, as after SiLU, its
    weight can become very large; HiResCAM, which distributes the same sum over positions in another way, is safer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import XGradCAM
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        >>> XGradCAM(layers="1")(net, torch.rand(2, 1, 4, 4)).maps["image"].shape
        torch.Size([2, 4, 4])
    """

    method = "xgrad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c (Σ G_c A_c ÷ Σ A_c) A_c."""
        products, sums = (gradient * activation).flatten(2).sum(dim=2), activation.flatten(2).sum(dim=2)
        return weighted_sum(activation, products / (sums + SMALL))
