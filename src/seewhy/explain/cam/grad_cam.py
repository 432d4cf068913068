"""Grad-CAM: channels weighted by the mean of their gradients."""

from __future__ import annotations

from torch import Tensor

from seewhy.explain.cam.base import ActivationMap, weighted_sum

__all__ = ["GradCAM"]


class GradCAM(ActivationMap):
    """Channels weighted by the mean of their gradients (Selvaraju 2017, equations 1 and 2).

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from seewhy.explain import GradCAM
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
        >>> maps = GradCAM(layers="1")(net, torch.rand(2, 1, 8, 8), target=1)
        >>> maps.maps["image"].shape, maps.scores.shape, maps.layers
        (torch.Size([2, 8, 8]), torch.Size([2, 3]), {'image': '1'})
        >>> GradCAM(layers="0.conv")(net, torch.rand(2, 1, 8, 8))
        Traceback (most recent call last):
        seewhy.errors.ConfigError: Sequential has no layer '0.conv'; valid: '0', '1', '2', '3'
    """

    method: str = "grad_cam"

    def combine(self, activation: Tensor, gradient: Tensor) -> Tensor:
        """Compute Σ_c mean(G_c) A_c."""
        return weighted_sum(activation, gradient.flatten(2).mean(dim=2))
